"""Bodies are bounded one by one and all together, and their bytes are released when they are answered."""

import asyncio
from collections.abc import Sequence

from starlette.requests import Request
from starlette.types import Message

from serving.http.problems import Problem
from serving.http.requests import DISCONNECTED, TOO_MANY_BYTES, Bodies
from serving.http.schemas import TOO_LARGE
from wire.records import MAX_EVENT_BYTES


def request(*chunks: bytes, length: int | None = None, is_cut: bool = False) -> Request:
    messages: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.disconnect"} if is_cut else {"type": "http.request", "body": b""})
    waiting = iter(messages)

    async def receive() -> Message:
        return next(waiting)

    headers: Sequence[tuple[bytes, bytes]] = [] if length is None else [(b"content-length", str(length).encode())]
    return Request({"type": "http", "headers": headers}, receive)


def read(bodies: Bodies, received: Request) -> bytes | Problem:
    with bodies.reader() as reader:
        return asyncio.run(reader.read(received))


def test_a_body_is_all_of_its_chunks() -> None:
    bodies = Bodies(max_bytes=100)
    assert read(bodies, request(b"ab", b"c")) == b"abc"
    assert bodies.num_bytes == 0


def test_a_body_that_says_it_is_too_large_is_not_read() -> None:
    assert read(Bodies(max_bytes=1 << 30), request(b"a", length=MAX_EVENT_BYTES + 1)) is TOO_LARGE


def test_a_body_that_grows_too_large_is_given_up() -> None:
    chunk = b"x" * (MAX_EVENT_BYTES // 2 + 1)
    assert read(Bodies(max_bytes=1 << 30), request(chunk, chunk)) is TOO_LARGE


def test_all_bodies_share_their_bytes_until_they_are_answered() -> None:
    bodies = Bodies(max_bytes=5)
    with bodies.reader() as reader:
        assert asyncio.run(reader.read(request(b"abc"))) == b"abc"
        assert read(bodies, request(b"def")) is TOO_MANY_BYTES
    assert read(bodies, request(b"def")) == b"def"


def test_a_client_that_hangs_up_gets_a_problem_and_holds_no_bytes() -> None:
    bodies = Bodies(max_bytes=5)
    assert read(bodies, request(b"abc", is_cut=True)) is DISCONNECTED
    assert bodies.num_bytes == 0
