"""Tests of when a checkpoint is due and synced, and of which checkpoints are pruned."""

from pathlib import Path

import pytest

from learner.encoder.served import export_encoder
from learner.release.checkpoint_writer import CheckpointWriter
from learner.release.publish_backoff import PublishBackoff
from learner.release.tensors import NEWEST, TensorCache
from tests.learner.publish_rig import PublishRig
from tests.learner.small_learner import small_strata
from tests.learner.snapshots import manifest
from tests.learner.streams import stream
from tests.stores import plant_plan
from wire.config import StoreConfig
from wire.errors import StoreUnavailable
from wire.records import STABLE, Arm, RolloutPlan
from wire.store import Store

INTERVAL_S = 10.0


class Writing:
    """A writer for the learner, the store and the checkpoints of a rig, with its own clock."""

    def __init__(self, rig: PublishRig) -> None:
        self.rig = rig
        self.now_s = 100.0
        self.cache = TensorCache()
        self.backoff = PublishBackoff(rig.learner.counts, rig.leadership, self.cache, config=rig.config)
        self.writer = CheckpointWriter(
            rig.learner,
            rig.store,
            rig.checkpoints,
            rig.leadership,
            self.backoff,
            interval_s=INTERVAL_S,
            clock_s=lambda: self.now_s,
        )

    def learn(self, last: int) -> None:
        self.rig.learner.learn_many(stream(last - 1, last), {"feedback.v1/0": last})

    def is_due(self) -> bool:
        return self.writer.is_due

    def versions(self) -> list[int]:
        return [entry.version for entry in self.rig.checkpoints.entries()]


@pytest.fixture
def writing(store: Store, tmp_path: Path) -> Writing:
    return Writing(PublishRig(store, tmp_path))


def test_what_is_new_is_due_once_in_an_interval(writing: Writing) -> None:
    writer = writing.writer
    writing.learn(1)
    assert writing.is_due()
    writer.write(None)
    writing.learn(2)
    assert not writing.is_due()
    writing.now_s += INTERVAL_S
    assert writing.is_due()
    writer.write(None)
    writing.now_s += 5 * INTERVAL_S
    assert not writing.is_due(), "nothing is new"
    newest = writing.rig.checkpoints.newest()
    assert newest is not None and newest.facts.offsets == {"feedback.v1/0": 2}


def test_a_postponed_one_is_due_an_interval_later_and_the_last_one_at_once(writing: Writing) -> None:
    writer = writing.writer
    writing.learn(1)
    writer.postpone()
    assert not writing.is_due()
    writer.make_due()
    assert writing.is_due()


def test_what_was_not_synced_is_due_again(writing: Writing) -> None:
    """A version that is published right after a synced checkpoint is on the disk an interval later."""
    writer = writing.writer
    writing.learn(1)
    writer.write(None)
    writing.now_s += 1.0
    writing.learn(2)
    writer.write(manifest(1))
    writing.now_s += INTERVAL_S
    assert writing.is_due(), "nothing was read since, but the last one is not on the disk"
    writer.write(None)
    writing.now_s += 2 * INTERVAL_S
    assert not writing.is_due()


def test_only_what_the_plan_may_return_to_is_kept(writing: Writing, store_config: StoreConfig) -> None:
    writer = writing.writer
    tensors = export_encoder(small_strata())
    for version in range(1, NEWEST + 4):
        writing.learn(version)
        writer.write(manifest(version))
        writing.cache.add(version, tensors)
    plant_plan(store_config, RolloutPlan(revision=1, salt="s", arms=(Arm(name=STABLE, version=2, share=1.0),)))
    writer.remove_old()
    assert "tidy_failed" not in writing.rig.learner.counts
    assert writing.cache.has(2) and not writing.cache.has(1)
    assert {2, NEWEST + 3} <= set(writing.versions()) and not {3, 4} & set(writing.versions())


def test_a_failure_to_tidy_is_counted_and_told(writing: Writing, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise StoreUnavailable("the plan cannot be read")

    monkeypatch.setattr(writing.rig.store.plans, "read", refuse)
    writing.writer.remove_old()
    assert not writing.rig.leadership.breaker.allows_requests
    assert writing.rig.learner.counts["tidy_failed"] == 1
