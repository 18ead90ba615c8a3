"""The store is asked now and then, while it is there, and what fails is counted."""

from collections import Counter

import pytest

from learner.leadership import Leadership
from learner.release.commands import INTERVAL_S, StoreTurns
from wire.errors import NotFound, StaleEpoch, StoreUnavailable
from wire.store import Store


class Question:
    """Counts how often it is asked; raises `error`, if there is one."""

    def __init__(self) -> None:
        self.num_asked = 0
        self.error: Exception | None = None

    def __call__(self) -> None:
        self.num_asked += 1
        if self.error is not None:
            raise self.error


class Turns:
    """Takes turns, whose clock is `now_s`."""

    def __init__(self, leadership: Leadership) -> None:
        self.now_s = 0.0
        self.counts = Counter[str]()
        self.question = Question()
        self._turns = StoreTurns(
            leadership, self.counts, count="questions_failed", event="question_failed", clock_s=lambda: self.now_s
        )

    def take(self) -> None:
        self._turns.take(self.question)


@pytest.fixture
def leadership(store: Store) -> Leadership:
    return Leadership(store.leases, "learner", "one", ttl_ms=5_000)


@pytest.fixture
def turns(leadership: Leadership) -> Turns:
    return Turns(leadership)


def test_it_asks_at_most_once_an_interval(turns: Turns) -> None:
    turns.take()
    turns.now_s += INTERVAL_S / 2
    turns.take()
    assert turns.question.num_asked == 1
    turns.now_s += INTERVAL_S / 2
    turns.take()
    assert turns.question.num_asked == 2


def test_it_asks_nothing_of_a_store_that_is_away(turns: Turns, leadership: Leadership) -> None:
    turns.question.error = StoreUnavailable("away")
    turns.take()
    assert not leadership.breaker.allows_requests
    turns.now_s += INTERVAL_S
    turns.take()
    assert turns.question.num_asked == 1
    assert not turns.counts


def test_another_failure_is_counted_and_it_asks_again(turns: Turns) -> None:
    turns.question.error = NotFound("gone")
    turns.take()
    turns.now_s += INTERVAL_S
    turns.take()
    assert turns.counts == {"questions_failed": 2}


def test_another_leader_is_no_failure(turns: Turns) -> None:
    turns.question.error = StaleEpoch("another holds the lease")
    with pytest.raises(StaleEpoch):
        turns.take()
    assert not turns.counts
