"""Generates load over HTTP or gRPC in a closed loop: each client sends its next request after the last response.

    request (bytes, made once) --num connections, keep-alive--> responses --> requests a second, latency

The load generator shares the machine with the server, so it does as little work as possible: requests are encoded once,
and only the length of a response is parsed. All servers are measured by the same clients.
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
    """The throughput and the latency of requests. A request may have several items."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float

    @classmethod
    def from_times(cls, seconds: Sequence[float], *, lasted_s: float) -> "Load":
        """Returns the figures of requests from the latency of each, in seconds, and the duration of the measurement.

        >>> Load.from_times([0.001, 0.002, 0.003, 0.004], lasted_s=2.0)
        Load(requests_per_s=2.0, p50_ms=2.0, p99_ms=4.0)
        """
        ordered = sorted(seconds)
        p50_ms = round(1e3 * nearest_rank(ordered, 50), 2)
        p99_ms = round(1e3 * nearest_rank(ordered, 99), 2)
        return cls(round(len(ordered) / lasted_s, 1), p50_ms, p99_ms)


def post(path: str, body: Any, *, port: int) -> bytes:
    """Returns the bytes of an HTTP request with a JSON body."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


def over_http(port: int, requests: Sequence[bytes], *, num_clients: int, seconds: float) -> Load:
    """Sends the requests in turn over `num_clients` connections.

    Raises NoResult if a request is refused or gets no answer.
    """

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

    return asyncio.run(_measure(client, num_clients, seconds))


def over_grpc(port: int, method: str, requests: Sequence[bytes], *, num_clients: int, seconds: float) -> Load:
    """Sends serialized messages by `num_clients` clients over one shared channel, as gRPC recommends.

    Raises NoResult if a call is refused or gets no answer.
    """
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

        return await _measure(client, num_clients, seconds)


_Exchange = Callable[[], Coroutine[Any, Any, None]]
_Send = Callable[[_Exchange], Coroutine[Any, Any, None]]
"""Repeats an exchange of a request and its response until the time is over."""


async def _measure(client: Callable[[_Send, int], Coroutine[Any, Any, None]], num_clients: int, seconds: float) -> Load:
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
    return Load.from_times(took_s, lasted_s=time.perf_counter() - began_s)


async def _read_response(reader: asyncio.StreamReader) -> None:
    """Reads one response. Raises NoResult if its status is not 200 or its body is empty."""
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
    """Reads a body in chunked transfer coding (RFC 9112, section 7.1), which the proxy of Ray Serve sends."""
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readuntil(b"\r\n")
    await reader.readuntil(b"\r\n")
    return body
