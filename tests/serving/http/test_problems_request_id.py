"""Every request has an id: the client's own where that is well formed."""

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from serving.http.problems import REQUEST_ID_HEADER, RequestId, get_request_id


def ids(header: str | None, *, kind: str = "http") -> tuple[str, list[tuple[bytes, bytes]]]:
    """Returns the id that the application saw, and the headers of the response."""
    seen = ""
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal seen
        seen = get_request_id(scope)
        await send({"type": f"{kind}.response.start", "status": 200, "headers": []})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [] if header is None else [(REQUEST_ID_HEADER.encode(), header.encode("latin-1"))]
    asyncio.run(RequestId(app, new_id=lambda: "new")({"type": kind, "headers": headers}, receive, send))
    return seen, sent[0]["headers"]


def test_the_id_of_the_client_comes_back() -> None:
    assert ids("trace-1/2") == ("trace-1/2", [(REQUEST_ID_HEADER.encode(), b"trace-1/2")])


@pytest.mark.parametrize("header", [None, "", "a b", "\xe9", "x" * 129])
def test_where_it_is_missing_or_malformed_a_new_one_is_given(header: str | None) -> None:
    assert ids(header) == ("new", [(REQUEST_ID_HEADER.encode(), b"new")])


def test_what_is_no_request_has_none() -> None:
    assert ids("trace", kind="lifespan") == ("", [])
