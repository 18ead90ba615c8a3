"""Measures the service at three times the load that it can answer: goodput, time to refuse, and memory.

    closed loop --> peak     open loop at `times` the peak --> answered, refused, both timed; memory of the replicas

Requests have many texts, so that the sender uses little of the machine that it shares with the service. Goodput is the
rate of answered texts. The latency of an answered request has no goal here, because it is the length of the queue
(`serving.max_queue_items`) divided by the rate.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil
from os import getpid
from statistics import median

import psutil

from bench.chaos.programs import REPLICA, ProcessTree
from bench.harness.case import Run
from bench.harness.service import running_service
from bench.harness.texts import some_texts
from bench.http_load import over_http, post
from evals.load.score import nearest_rank
from evals.results.row import NoResult, Row

MIB = 1 << 20
PEAK_CLIENTS = 4
MAX_OPEN = 512
"""The largest number of our requests that may wait for a response. If more wait, there is no result."""

WARM_UP = 1 / 5
"""The fraction of the time before the memory counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OverloadSize:
    """The size of the benchmark."""

    minutes: float = 5.0
    peak_s: float = 30.0
    """The duration of the peak's measurement, in seconds."""
    times: float = 3.0
    """The load as a multiple of the peak."""
    texts: int = 64
    """The number of texts in a request."""
    sample_every_s: float = 2.0


@dataclass(slots=True)
class OverloadFigures:
    """The measurements under overload: latencies of answered and refused requests, and bytes of the replicas."""

    lasted_s: float = 0.0
    answered_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    failed: int = 0
    """The number of requests without a response, or with another response than 200, 429 or 503."""
    memory: list[int] = field(default_factory=list)


def measure(run: Run) -> Iterator[Row]:
    size = run.sized(OverloadSize(), quick=OverloadSize(minutes=0.3, peak_s=3.0))
    with running_service() as service:
        port = service.settings.serving.http_port
        request = post("/v1/predict", {"events": [{"text": text} for text in some_texts(size.texts)]}, port=port)
        run.say("overload: the peak ...")
        peak = over_http(port, [request], num_clients=PEAK_CLIENTS, seconds=size.peak_s).requests_per_s
        run.say(f"overload: {size.times:g} times {peak:g} requests/s ...")
        seen = asyncio.run(overload(port, request, rate=size.times * peak, size=size))
        service.check()
    yield from rows(peak, seen, size)


def rows(peak: float, seen: OverloadFigures, size: OverloadSize) -> Iterator[Row]:
    """Yields the rows. Raises NoResult if no request was refused, because then there was no overload."""
    if not seen.refused_s or not seen.answered_s:
        raise NoResult(f"{len(seen.answered_s)} requests were answered and {len(seen.refused_s)} refused: no overload")
    note = f"{size.times:g} times the peak of {peak * size.texts:.0f} texts/s, for {seen.lasted_s / 60:.1f} minutes"
    goodput = len(seen.answered_s) / seen.lasted_s / peak
    yield Row.of("overload.goodput", round(goodput, 3), "of the peak", goal=">= 0.9", note=note)
    refused_ms = 1e3 * nearest_rank(seen.refused_s, 99)
    yield Row.of("overload.refused.p99", round(refused_ms, 1), "ms", goal="<= 50", note=note)
    yield Row.of("overload.answered.p99", round(1e3 * nearest_rank(seen.answered_s, 99), 1), "ms", note=note)
    yield Row.of("overload.failed", seen.failed, "requests", goal="<= 0", note=note)
    warm = seen.memory[ceil(WARM_UP * len(seen.memory)) :]
    middle = median(warm)
    change = max(max(warm) - middle, middle - min(warm)) / middle
    memory_note = f"of {middle / MIB:.0f} MiB, without the first fifth"
    yield Row.of("overload.memory", round(change, 3), "from the median", goal="<= 0.1", note=memory_note)


async def overload(port: int, request: bytes, *, rate: float, size: OverloadSize) -> OverloadFigures:
    """Sends the request at `rate` a second, independently of the responses (open loop).

    Raises NoResult if more than MAX_OPEN requests wait for a response.
    """
    seen = OverloadFigures()
    open_requests = set[asyncio.Task[None]]()
    begun_s = time.perf_counter()
    next_sample_s = begun_s
    number = 0
    while (now_s := time.perf_counter()) < begun_s + 60 * size.minutes:
        if now_s >= next_sample_s:
            seen.memory.append(await asyncio.to_thread(_replica_bytes))
            next_sample_s += size.sample_every_s
        due = int((now_s - begun_s) * rate)
        for _ in range(number, due):
            task = asyncio.create_task(_ask(port, request, seen))
            open_requests.add(task)
            task.add_done_callback(open_requests.discard)
        number = max(number, due)
        if len(open_requests) > MAX_OPEN:
            raise NoResult(f"more than {MAX_OPEN} requests wait for a response")
        await asyncio.sleep(min(0.01, 1 / rate))
    seen.lasted_s = time.perf_counter() - begun_s
    num_answered = len(seen.answered_s)
    await asyncio.gather(*open_requests)
    # Answers that came after the end do not count for the goodput.
    del seen.answered_s[num_answered:]
    return seen


async def _ask(port: int, request: bytes, seen: OverloadFigures) -> None:
    """Sends a request on a connection of its own."""
    begun_s = time.perf_counter()
    status = b""
    with suppress(OSError, EOFError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            status = (await reader.readuntil(b"\r\n")).split()[1]
        finally:
            writer.close()
    took_s = time.perf_counter() - begun_s
    if status == b"200":
        seen.answered_s.append(took_s)
    elif status in (b"429", b"503"):
        seen.refused_s.append(took_s)
    else:
        seen.failed += 1


def _replica_bytes() -> int:
    """Returns the resident bytes of the replicas that this process has started."""
    num_bytes = 0
    for pid in ProcessTree(getpid()).pids(REPLICA):
        with suppress(psutil.Error):
            num_bytes += int(psutil.Process(pid).memory_info().rss)
    return num_bytes
