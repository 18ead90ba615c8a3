"""Tests of the pauses between attempts to publish."""

from pathlib import Path

import pytest

from learner.release.publish_backoff import MAX_BACKLOG_S, PublishBackoff
from learner.release.tensors import TensorCache
from tests.learner.publish_rig import PublishRig
from tests.learner.small_learner import small_config
from wire.errors import StoreUnavailable
from wire.store import Store


class Trying:
    """The backoff of a learner with an interval of one second and a pause of half a second after a failure."""

    def __init__(self, rig: PublishRig) -> None:
        self.now_s = 100.0
        self.rig = rig
        config = small_config(publish_interval_s=1.0, retry_backoff_ms=500)
        self.backoff = PublishBackoff(
            rig.learner.counts, rig.leadership, TensorCache(), config=config, clock_s=lambda: self.now_s
        )

    def may_begin(self) -> bool:
        return self.backoff.may_begin


@pytest.fixture
def trying(store: Store, tmp_path: Path) -> Trying:
    return Trying(PublishRig(store, tmp_path))


def test_the_next_one_comes_after_the_interval_unless_it_is_ended(trying: Trying) -> None:
    trying.backoff.begin()
    assert not trying.may_begin()
    trying.backoff.end_interval()
    assert trying.may_begin()
    trying.backoff.begin()
    trying.now_s += 1.0
    assert trying.may_begin()


def test_labels_are_learnt_for_twice_as_long_as_the_attempt_took(trying: Trying) -> None:
    trying.backoff.begin()
    trying.backoff.rest(3.0)
    trying.now_s += 5.9
    assert not trying.may_begin()
    trying.now_s += 0.1
    assert trying.may_begin()
    trying.backoff.begin()
    trying.backoff.rest(0.1)
    trying.now_s += 0.9
    assert not trying.may_begin(), "the interval is longer"


def test_after_a_failure_there_is_a_pause_and_each_failure_counts(trying: Trying) -> None:
    trying.backoff.fail(OSError("no room"))
    assert not trying.may_begin()
    trying.now_s += 0.5
    assert trying.may_begin()
    trying.backoff.fail(OSError("no room"))
    assert trying.rig.learner.counts["publications_failed"] == 2


def test_a_store_that_is_away_is_asked_nothing(trying: Trying) -> None:
    trying.backoff.react_to(StoreUnavailable("nobody answers"))
    assert not trying.may_begin()


def test_behind_a_backlog_the_interval_is_the_time_that_it_takes_up_to_a_bound(trying: Trying) -> None:
    trying.backoff.behind_s = 600.0
    assert trying.may_begin(), "the first version does not wait"
    trying.backoff.begin()
    trying.backoff.end_interval()
    trying.now_s += MAX_BACKLOG_S - 0.1
    assert not trying.may_begin()
    trying.backoff.behind_s = MAX_BACKLOG_S - 0.2
    assert trying.may_begin()
    trying.backoff.begin()
    trying.now_s += MAX_BACKLOG_S - 0.3
    assert not trying.may_begin()
    trying.backoff.behind_s = 0.0
    assert trying.may_begin()
