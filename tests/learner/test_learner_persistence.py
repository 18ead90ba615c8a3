"""A learner becomes a snapshot, and the snapshot what the learner knew."""

from typing import Any

import pytest
import torch

from learner.encoder.base import BaseEncoder
from learner.learner import Learner, empty_knowledge, restore_knowledge
from learner.quality.comparison import Anchor
from learner.state.checkpoints import VersionState
from learner.state.snapshot import MEANS, Snapshot
from rollout.publication_rule import verdict
from tests.learner.small_learner import small_config, small_learner, small_strata, tokenizer
from tests.learner.snapshots import manifest
from tests.learner.streams import MARKS, stream
from wire.config import LabelConfig


def taught(last: int, **changed: Any) -> Learner:
    learner = small_learner(**changed)
    learner.learn_many(stream(0, last), {"feedback.v1/0": last}, MARKS)
    return learner


def recalled(snapshot: Snapshot, **changed: Any) -> Any:
    """Returns what the snapshot knew under other settings, with the change that these are."""
    config = small_config(**changed)
    base = BaseEncoder(config, small_strata(), tokenizer())
    return restore_knowledge(VersionState(snapshot), base, LabelConfig(), like=base.served)


def test_before_the_first_label_nothing_is_known() -> None:
    config = small_config()
    base = BaseEncoder(config, small_strata(), tokenizer())
    known = empty_knowledge(base)
    assert (len(known.replay), len(known.holdout), list(known.fast_head.ridge.classes)) == (0, 0, [])
    assert known.strata is base.strata and known.round is None


def test_a_snapshot_has_what_the_learner_knows_and_where_it_has_read_to() -> None:
    learner = taught(50, trainable_layers=0)
    snapshot = learner.export(manifest(3), epoch=7)
    facts = snapshot.facts
    assert (facts.epoch, facts.offsets, facts.marks) == (7, {"feedback.v1/0": 50}, MARKS)
    assert facts.pending == manifest(3) and facts.round_plan is None and MEANS not in snapshot.tensors
    assert facts.counts["learnt"] + facts.counts["holdout"] == 50


def test_what_is_restored_is_what_was_known() -> None:
    learner = taught(50, trainable_layers=0)
    snapshot = learner.export(None, epoch=1)
    known, change = recalled(snapshot, trainable_layers=0)
    assert not change
    for name, sums in learner.fast_head.export().items():
        assert torch.equal(known.fast_head.export()[name], sums), name
    for memory in ("replay", "fresh"):
        assert getattr(known, memory).export() == getattr(learner.knowledge, memory).export()
    assert known.holdout.samples.export() == learner.knowledge.holdout.samples.export()
    assert known.classes.export() == learner.knowledge.classes.export()


@pytest.mark.parametrize("num_held", [20_000, 30], ids=["all are held", "some are forgotten"])
def test_the_newest_labels_are_those_of_the_memory_where_an_older_program_held_none(num_held: int) -> None:
    learner = taught(50, trainable_layers=0, replay_samples=num_held)
    snapshot = learner.export(None, epoch=1)
    older = {name: tensor for name, tensor in snapshot.tensors.items() if "newest" not in name}
    known, _ = recalled(Snapshot(facts=snapshot.facts, tensors=older), trainable_layers=0, replay_samples=num_held)
    z_ND, rows_N = known.fast_head.recency.newest.held(8)
    expected_ND, expected_N = learner.fast_head.recency.newest.held(8)
    assert len(rows_N) and len(older) < len(snapshot.tensors)
    is_same = torch.equal(z_ND, expected_ND) and torch.equal(rows_N, expected_N)
    assert (is_same, bool(known.lineage.gap)) == ((True, False) if num_held > 50 else (False, True))


def test_what_was_learnt_after_the_snapshot_is_learnt_again() -> None:
    learner = taught(50, trainable_layers=0)
    snapshot = learner.export(None, epoch=1)
    learner.unwritten.clear()
    learner.learn_many(stream(50, 80), {"feedback.v1/0": 80})
    config = small_config(trainable_layers=0)
    base = BaseEncoder(config, small_strata(), tokenizer())
    known, _ = restore_knowledge(VersionState(snapshot, learner.unwritten), base, LabelConfig(), like=base.served)
    assert all(torch.equal(known.fast_head.export()[name], sums) for name, sums in learner.fast_head.export().items())
    assert known.replay.export() == learner.replay.export()
    assert known.holdout.samples.export() == learner.knowledge.holdout.samples.export()
    assert known.progress == learner.progress and known.progress is not learner.progress
    assert (known.counts["learnt"], known.counts["holdout"]) == (learner.counts["learnt"], learner.counts["holdout"])


def in_a_round() -> Learner:
    learner = taught(80)
    learner.tick()
    assert learner.has_work
    return learner


def test_a_round_under_way_begins_again_from_its_plan() -> None:
    learner = in_a_round()
    snapshot = learner.export(None, epoch=1)
    known, _ = recalled(snapshot)
    assert learner.knowledge.round is not None and learner.knowledge.round.trained is not None
    assert known.round.trained.plan == learner.knowledge.round.trained.plan
    assert torch.equal(known.round.trained.means_CD, learner.knowledge.round.trained.means_CD)
    assert known.lineage == learner.knowledge.lineage


def test_a_learner_decides_on_trials_by_its_rule_before_and_after_it_was_restored() -> None:
    learner = small_learner()
    learner.restore(in_a_round().export(None))
    assert learner.knowledge.round is not None
    assert learner.knowledge.rule is small_learner().knowledge.rule is verdict


def test_a_round_ends_dropped_where_nothing_is_trained_any_more_or_the_sums_are_made_anew() -> None:
    snapshot = in_a_round().export(None, epoch=1)
    for changed in ({"trainable_layers": 0}, {"seed": 3}):
        known, _ = recalled(snapshot, **changed)
        assert known.round is None
        assert known.lineage.rounds[-1].outcome == "dropped"


def test_an_anchor_is_of_the_features_it_was_measured_under() -> None:
    learner = taught(50, trainable_layers=0)
    learner.knowledge.anchor = anchor = Anchor(version=1, num_classes=5)
    snapshot = learner.export(None, epoch=1)
    assert recalled(snapshot, trainable_layers=0)[0].anchor == anchor
    assert recalled(snapshot, trainable_layers=0, seed=3)[0].anchor is None
