"""How events and labels are exchanged for answers by HTTP, without a network: `client` sends what this says.

    entries --> batches --> Attempt --client--> HttpReply or ServiceUnavailable --> results, an error in place of each
                               ^------ what may succeed later, after a pause ------'    that was refused

An exchange is a generator: it yields attempts, is sent what came of each, and returns the results. So the clients with
and without asyncio share all of it, and the tests need neither a network nor a clock.
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
    """How long a call is tried, in how large requests. `clock` returns monotonic seconds."""

    timeout_s: float
    """The deadline of a call, with all of its attempts and pauses."""
    attempt_timeout_s: float
    """The longest time that one request waits, so that a replica that hangs costs no more than that."""
    max_entries: int
    """Most events or labels of one request."""
    max_bytes: int = MAX_EVENT_BYTES
    """Most bytes of one request, unless a single entry is larger."""
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=0.1, longest_s=5.0, jitter=0.5))
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """A request to post after a pause of `pause_s`, and how long its response may take."""

    path: str
    body: bytes
    timeout_s: float
    pause_s: float


Exchange: TypeAlias = Generator[Attempt, HttpReply | ServiceUnavailable | None, T]
"""Is sent None to begin, and then what came of each attempt."""


@dataclass(frozen=True, slots=True)
class Finished(Generic[T]):
    """The end of an exchange."""

    result: T


def next_step(exchange: Exchange[T], reply: HttpReply | ServiceUnavailable | None) -> Attempt | Finished[T]:
    """Returns the next attempt, or what the exchange returned. Raises ClientError, as the exchange does."""
    try:
        return exchange.send(reply)
    except StopIteration as end:
        return Finished(end.value)


def exchange(endpoint: Endpoint, entries: Sequence[bytes], policy: ExchangePolicy) -> Exchange[list[Result]]:
    """Returns a result for each entry, in order. Raises ClientError, the first one, where every result is one."""
    until_s = policy.clock() + policy.timeout_s
    results: list[Result] = []
    for batch in batches(entries, max_entries=policy.max_entries, max_bytes=policy.max_bytes):
        results += yield from _exchange_batch(endpoint, batch, policy, until_s)
    errors = [result for result in results if isinstance(result, ClientError)]
    if errors and len(errors) == len(results):
        raise errors[0]
    return results


def _exchange_batch(
    endpoint: Endpoint, batch: Sequence[bytes], policy: ExchangePolicy, until_s: float
) -> Exchange[list[Result]]:
    """Returns the results of a batch: what may succeed later is sent again, alone, until the deadline."""
    late = ServiceUnavailable("there was no time left for it", code="deadline_exceeded")
    results: list[Result] = [late] * len(batch)
    waiting = [*range(len(batch))]
    num_failures = 0
    pause_s = 0.0
    while waiting and (left_s := until_s - policy.clock() - pause_s) > 0:
        body = b'{"%b":[%b]}' % (endpoint.entries.encode(), b",".join(batch[index] for index in waiting))
        timeout_s = min(left_s, policy.attempt_timeout_s)
        reply = yield Attempt(path=endpoint.path, body=body, timeout_s=timeout_s, pause_s=pause_s)
        assert reply is not None
        for index, result in zip(waiting, read_results(reply, endpoint, len(waiting)), strict=True):
            results[index] = result
        failed = {index: error for index in waiting if isinstance(error := results[index], ServiceUnavailable)}
        waiting = [*failed]
        num_failures += 1
        asked_s = max((error.retry_after_s for error in failed.values()), default=0.0)
        pause_s = asked_s + policy.backoff.pause_s(num_failures)
    return results


def batches(entries: Sequence[bytes], *, max_entries: int, max_bytes: int) -> Iterator[list[bytes]]:
    """Yields the entries in lists of as many as one request may have. A larger entry is alone, and is refused alone.

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


_FRAME_BYTES = 13  # of {"events":[]}, with some left
