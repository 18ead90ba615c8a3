"""The exchange of entries (events or labels) for results: batches, retries and deadlines, without network I/O.

    entries --> batches --> Attempt --client--> HttpReply or ServiceUnavailable --> results; a refused entry
                               ^----- entries that may succeed later, after a pause -----'    has its error

An exchange is a generator: it yields attempts, receives the reply to each, and returns the results (sans I/O). So the
blocking client and the asyncio client share it, and tests need neither a network nor a clock.
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from lifelong.errors import ClientError, ServiceUnavailable
from lifelong.replies import Endpoint, HttpReply, Result, read_results
from wire.backoff import Backoff
from wire.records import MAX_EVENT_BYTES

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExchangePolicy:
    """Timeouts, request sizes and back-off. `clock` returns monotonic seconds."""

    timeout_s: float
    """The deadline of a call, including all retries and pauses."""
    attempt_timeout_s: float
    """The timeout of one request. It limits the time that is lost to a replica that hangs."""
    max_entries: int
    """The most events or labels in one request."""
    max_bytes: int = MAX_EVENT_BYTES
    """The largest body of a request. A single entry may be larger."""
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=0.1, longest_s=5.0, jitter=0.5))
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """A POST request: sent after a pause of `pause_s`, with a timeout of `timeout_s`."""

    path: str
    body: bytes
    timeout_s: float
    pause_s: float


Exchange: TypeAlias = Generator[Attempt, HttpReply | ServiceUnavailable | None, T]
"""A generator that is started with None, and then receives the reply to each attempt."""


@dataclass(frozen=True, slots=True)
class Finished(Generic[T]):
    """The end of an exchange, with the value that the generator returned."""

    result: T


def next_step(exchange: Exchange[T], reply: HttpReply | ServiceUnavailable | None) -> Attempt | Finished[T]:
    """Returns the next attempt, or the result if the exchange has ended. Raises the exchange's ClientError."""
    try:
        return exchange.send(reply)
    except StopIteration as end:
        return Finished(end.value)


def exchange(endpoint: Endpoint, entries: Sequence[bytes], policy: ExchangePolicy) -> Exchange[list[Result]]:
    """Returns a result for each entry, in order. If all results are errors, the first one is raised."""
    deadline_s = policy.clock() + policy.timeout_s
    results: list[Result] = []
    for batch in batches(entries, max_entries=policy.max_entries, max_bytes=policy.max_bytes):
        results += yield from _exchange_batch(endpoint, batch, policy, deadline_s)
    errors = [result for result in results if isinstance(result, ClientError)]
    if errors and len(errors) == len(results):
        raise errors[0]
    return results


def _exchange_batch(
    endpoint: Endpoint, batch: Sequence[bytes], policy: ExchangePolicy, deadline_s: float
) -> Exchange[list[Result]]:
    """Returns the results of a batch. Entries that failed temporarily are sent again until the deadline."""
    too_late = ServiceUnavailable("the deadline of the call passed before it was sent", code="deadline_exceeded")
    results: list[Result] = [too_late] * len(batch)
    pending = [*range(len(batch))]
    num_failures = 0
    pause_s = 0.0
    # A pause that ends after the deadline is not waited for.
    while pending and (remaining_s := deadline_s - policy.clock() - pause_s) > 0:
        body = b'{"%b":[%b]}' % (endpoint.entries.encode(), b",".join(batch[index] for index in pending))
        timeout_s = min(remaining_s, policy.attempt_timeout_s)
        reply = yield Attempt(path=endpoint.path, body=body, timeout_s=timeout_s, pause_s=pause_s)
        assert reply is not None
        for index, result in zip(pending, read_results(reply, endpoint, len(pending)), strict=True):
            results[index] = result
        failed = {index: error for index in pending if isinstance(error := results[index], ServiceUnavailable)}
        pending = [*failed]
        num_failures += 1
        retry_after_s = max((error.retry_after_s for error in failed.values()), default=0.0)
        pause_s = retry_after_s + policy.backoff.pause_s(num_failures)
    return results


def batches(entries: Sequence[bytes], *, max_entries: int, max_bytes: int) -> Iterator[list[bytes]]:
    """Yields the entries in batches that fit into one request.

    An entry larger than `max_bytes` is a batch of its own, so that the service refuses it alone.

    >>> [*batches([b"1", b"22", b"333", b"4"], max_entries=2, max_bytes=20)]
    [[b'1', b'22'], [b'333', b'4']]
    """
    batch: list[bytes] = []
    num_bytes = _FRAME_BYTES
    for entry in entries:
        if batch and (len(batch) == max_entries or num_bytes + len(entry) + 1 > max_bytes):
            yield batch
            batch = []
            num_bytes = _FRAME_BYTES
        batch.append(entry)
        num_bytes += len(entry) + 1
    if batch:
        yield batch


_FRAME_BYTES = 13
"""The bytes around the entries, {"events":[]}, rounded up."""
