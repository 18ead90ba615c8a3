"""A closed loop of clients over HTTP or gRPC: each sends its next request when it has the response to the last one.

    request (bytes, made once) --num connections, keep-alive--> responses --> requests a second, latency

It shares the machine with the server, like the clients of all sides here, so it does as little as it can: a request is
made once, and of a response only the length is parsed.
"""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from evals.load.score import nearest_rank
from evals.results.row import NoResult

WARM_UP_S = 1.0
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Load:
    """What the clients have seen. A request may be of several items."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float], *, lasted_s: float) -> "Load":
        """Returns the figures of requests that took so many seconds each.

        >>> Load.of([0.001, 0.002, 0.003, 0.004], lasted_s=2.0)
        Load(requests_per_s=2.0, p50_ms=2.0, p99_ms=4.0)
        """
        ordered = sorted(seconds)
        p50_ms = round(1e3 * nearest_rank(ordered, 50), 2)
        p99_ms = round(1e3 * nearest_rank(ordered, 99), 2)
        return cls(round(len(ordered) / lasted_s, 1), p50_ms, p99_ms)


def post(path: str, body: Any, *, port: int) -> bytes:
    """Returns a whole request with a JSON body."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


def over_http(port: int, requests: Sequence[bytes], *, num_clients: int, seconds: float) -> Load:
    """Sends the requests in turns from so many connections. Raises NoResult where one is refused, or gets no answer."""

    async def client(send: "_Send", number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        turn = number

        async def exchange() -> None:
            nonlocal turn
            writer.write(requests[turn % len(requests)])
            turn += num_clients
            await _read_response(reader)

        try:
            await send(exchange)
        finally:
            writer.close()

    return asyncio.run(_measured(client, num_clients, seconds))


def over_grpc(port: int, method: str, requests: Sequence[bytes], *, num_clients: int, seconds: float) -> Load:
    """The same with serialized messages, over one channel that all clients share, as gRPC advises."""
    return asyncio.run(_over_grpc(port, method, requests, num_clients, seconds))


async def _over_grpc(port: int, method: str, requests: Sequence[bytes], num_clients: int, seconds: float) -> Load:
    import grpc.aio

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(method)

        async def client(send: "_Send", number: int) -> None:
            turn = number

            async def exchange() -> None:
                nonlocal turn
                try:
                    await call(requests[turn % len(requests)])
                except grpc.aio.AioRpcError as error:
                    raise NoResult(f"a call was refused: {error.code()} {error.details()}") from error
                turn += num_clients

            await send(exchange)

        return await _measured(client, num_clients, seconds)


_Exchange = Callable[[], Coroutine[Any, Any, None]]
_Send = Callable[[_Exchange], Coroutine[Any, Any, None]]
"""Sends one request after the other until the time is over."""


async def _measured(
    client: Callable[[_Send, int], Coroutine[Any, Any, None]], num_clients: int, seconds: float
) -> Load:
    began_s = time.perf_counter() + WARM_UP_S
    end_s = began_s + seconds
    took_s: list[float] = []

    async def send(exchange: _Exchange) -> None:
        while (sent_s := time.perf_counter()) < end_s:
            await asyncio.wait_for(exchange(), TIMEOUT_S)
            if sent_s >= began_s:
                took_s.append(time.perf_counter() - sent_s)

    try:
        await asyncio.gather(*(client(send, number) for number in range(num_clients)))
    except (OSError, TimeoutError, EOFError) as error:
        raise NoResult(f"a client got no answer: {error!r}") from error
    if not took_s:
        raise NoResult("no request was answered in time")
    return Load.of(took_s, lasted_s=time.perf_counter() - began_s)


async def _read_response(reader: asyncio.StreamReader) -> None:
    """Reads one response. Raises NoResult where its status is not 200, or its body is empty."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    is_chunked = False
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        is_chunked |= name.lower() == b"transfer-encoding" and value.strip().lower() == b"chunked"
    body = await _read_chunks(reader) if is_chunked else await reader.readexactly(length)
    if not head.startswith(b"HTTP/1.1 200") or not body:
        raise NoResult(f"a request was refused: {head[:60]!r} {body[:200]!r}")


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    """Reads a body whose length is said piece by piece, as the proxy of Ray Serve does (RFC 9112, section 7.1)."""
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readuntil(b"\r\n")
    await reader.readuntil(b"\r\n")
    return body
