"""Attempts, pauses and deadlines without a network: the test supplies the replies and the clock."""

import json
from collections.abc import Iterable

import msgspec
import pytest

from lifelong.errors import ClientError, NotAuthorized, ServiceUnavailable
from lifelong.exchange import Attempt, ExchangePolicy, Finished, exchange, next_step
from lifelong.replies import PREDICT, HttpReply, Result
from wire.backoff import Backoff

BACKOFF = Backoff(first_s=1.0, longest_s=8.0)

UNREACHABLE = ServiceUnavailable("away", code="unreachable")


class Played:
    """An exchange that receives `replies`. Each reply takes `takes_s`, at most the timeout of its attempt."""

    def __init__(self, replies: Iterable[HttpReply | ServiceUnavailable], *, takes_s: float = 0.0) -> None:
        self.attempts: list[Attempt] = []
        self.now_s = 100.0
        self._replies = iter(replies)
        self._takes_s = takes_s

    def results(self, entries: list[bytes], *, timeout_s: float = 20.0, max_entries: int = 2) -> list[Result]:
        policy = ExchangePolicy(
            timeout_s=timeout_s,
            attempt_timeout_s=5.0,
            max_entries=max_entries,
            max_bytes=60,
            backoff=BACKOFF,
            clock=lambda: self.now_s,
        )
        going = exchange(PREDICT, entries, policy)
        step = next_step(going, None)
        while isinstance(step, Attempt):
            self.attempts.append(step)
            self.now_s += step.pause_s + min(step.timeout_s, self._takes_s)
            step = next_step(going, next(self._replies))
        assert isinstance(step, Finished)
        return step.result

    @property
    def sent(self) -> list[list[int]]:
        return [json.loads(attempt.body)["events"] for attempt in self.attempts]

    @property
    def pauses_s(self) -> list[float]:
        return [attempt.pause_s for attempt in self.attempts]


def answers(*results: int | str) -> HttpReply:
    """A response with an answer for each number, and a problem for each code."""
    bodies = [{"n": each} if isinstance(each, int) else {"error": {"code": each, "message": "m"}} for each in results]
    return HttpReply(200, {}, msgspec.json.encode({"answers": bodies, "more": 5}))


def refusal(status: int, code: str, retry_after: str = "") -> HttpReply:
    return HttpReply(status, {"retry-after": retry_after}, msgspec.json.encode({"code": code, "detail": "m"}))


def codes(results: list[Result]) -> list[int | str]:
    return [each.code if isinstance(each, ClientError) else each["n"] for each in results]


def test_entries_are_sent_in_batches() -> None:
    played = Played([answers(1, 2), answers(3)])
    assert codes(played.results([b"1", b"2", b"3"])) == [1, 2, 3]
    assert played.sent == [[1, 2], [3]]
    assert Played([]).results([]) == []


def test_a_pause_grows_and_is_never_shorter_than_the_service_asks() -> None:
    played = Played([refusal(503, "queue_full"), refusal(429, "rate_limited", "3"), UNREACHABLE, answers(1)])
    assert codes(played.results([b"1"])) == [1]
    assert played.pauses_s == [0.0, 1.0, 5.0, 4.0]


def test_only_temporary_problems_are_retried() -> None:
    played = Played([answers(1, "wrong_schema", "queue_full"), answers(3)])
    assert codes(played.results([b"1", b"2", b"3"], max_entries=3)) == [1, "wrong_schema", 3]
    assert played.sent == [[1, 2, 3], [3]]


def test_a_permanent_error_is_not_retried() -> None:
    played = Played([refusal(401, "unauthenticated")])
    with pytest.raises(NotAuthorized, match="unauthenticated: m"):
        played.results([b"1", b"2"])
    assert len(played.attempts) == 1


def test_the_deadline_ends_the_attempts_with_the_last_reason() -> None:
    played = Played([UNREACHABLE] * 9, takes_s=60.0)
    with pytest.raises(ServiceUnavailable, match="unreachable"):
        played.results([b"1"])
    assert [attempt.timeout_s for attempt in played.attempts] == [5.0, 5.0, 5.0]
    assert played.pauses_s == [0.0, 1.0, 2.0]


def test_a_pause_beyond_the_deadline_is_not_waited_for() -> None:
    played = Played([refusal(429, "rate_limited", "60")])
    with pytest.raises(ServiceUnavailable, match="rate_limited") as caught:
        played.results([b"1"])
    assert (caught.value.retry_after_s, played.now_s) == (60.0, 100.0)


def test_entries_that_were_not_sent_in_time_have_an_error() -> None:
    played = Played([answers(1, 2)], takes_s=5.0)
    assert codes(played.results([b"1", b"2", b"3"], timeout_s=5.0)) == [1, 2, "deadline_exceeded"]


def test_a_batch_is_bounded_in_bytes_and_a_larger_entry_is_alone() -> None:
    long = b'"%b"' % (b"x" * 70)
    played = Played([answers(1), refusal(413, "too_large"), answers(3)])
    assert codes(played.results([b"1", long, b"3"])) == [1, "too_large", 3]
