"""Tests that the log is read once per interval while the store is reachable, and that failures are counted."""

from collections.abc import Callable
from pathlib import Path

import pytest

from learner.release.commands import INTERVAL_S
from tests.learner.publish_rig import PublishRig
from wire.errors import NotFound, StaleEpoch, StoreUnavailable
from wire.records import Command, CommandOutcome, Repair
from wire.store import Store

pytestmark = pytest.mark.live


class Question:
    """Counts the reads of the log; raises `error` if it is set."""

    def __init__(self, read: Callable[[int], list[Command]]) -> None:
        self._read = read
        self.num_asked = 0
        self.error: Exception | None = None

    def __call__(self, first: int = 1) -> list[Command]:
        self.num_asked += 1
        if self.error is not None:
            raise self.error
        return self._read(first)


@pytest.fixture
def rig(store: Store, tmp_path: Path) -> PublishRig:
    return PublishRig(store, tmp_path)


@pytest.fixture
def question(rig: PublishRig, monkeypatch: pytest.MonkeyPatch) -> Question:
    asked = Question(rig.store.commands.read)
    monkeypatch.setattr(rig.store.commands, "read", asked)
    return asked


def poll(rig: PublishRig, after_s: float = INTERVAL_S) -> None:
    rig.now_s += after_s
    rig.runner.poll()


def test_it_asks_at_most_once_an_interval(rig: PublishRig, question: Question) -> None:
    poll(rig)
    poll(rig, INTERVAL_S / 2)
    assert question.num_asked == 1
    poll(rig, INTERVAL_S / 2)
    assert question.num_asked == 2


def test_it_asks_nothing_of_a_store_that_is_away(rig: PublishRig, question: Question) -> None:
    question.error = StoreUnavailable("away")
    poll(rig)
    assert not rig.leadership.breaker.allows_requests
    poll(rig)
    assert question.num_asked == 1
    assert not rig.learner.counts["commands_failed"]


def test_another_failure_is_counted_and_it_asks_again(rig: PublishRig, question: Question) -> None:
    question.error = NotFound("gone")
    poll(rig)
    poll(rig, 0.0)
    poll(rig)
    assert rig.learner.counts["commands_failed"] == 2


def test_a_store_that_goes_away_while_the_log_is_read_hides_no_command(
    rig: PublishRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(commands: object) -> dict[int, CommandOutcome]:
        raise NotFound("gone")

    poll(rig)
    command = rig.store.commands.append(Repair(digests=()))
    with monkeypatch.context() as patched:
        patched.setattr(rig.store.commands, "outcomes", fail)
        poll(rig)
    assert rig.store.commands.outcome(command) is None
    poll(rig)
    outcome = rig.store.commands.outcome(command)
    assert outcome is not None and outcome.state == "done"


def test_another_leader_is_no_failure(rig: PublishRig, question: Question) -> None:
    question.error = StaleEpoch("another holds the lease")
    with pytest.raises(StaleEpoch):
        poll(rig)
    assert not rig.learner.counts["commands_failed"]
