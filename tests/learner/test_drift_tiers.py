"""A round trains the deeper, the further texts have moved; afterwards the tiers freeze again, one a round."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.drift import BASE_EFFECT, DOMAIN_EFFECT, DriftState, DriftWatch, freeze, tier_for, tier_name, unfreeze
from learner.encoder.served import ActivationCache
from learner.learner import Learner
from learner.rounds.round import TrainedEncoder
from learner.state.snapshot import decode, encode
from model.plan import layer_index
from tests.learner.small_learner import Setting
from tests.learner.test_learner import find_training
from tests.learner.tiered_learner import far_away, rightly_answered, tiered_learner, wrongly_answered
from wire.records import PSEUDO_LABELS, TIERS, Answer, Feedback

EFFECTS = st.floats(0, 2 * BASE_EFFECT)


@given(EFFECTS, EFFECTS)
def test_a_larger_rise_never_unfreezes_less(one: float, other: float) -> None:
    assert tier_for(min(one, other)) <= tier_for(max(one, other))
    assert [tier_for(effect) for effect in (0.0, DOMAIN_EFFECT, BASE_EFFECT)] == [0, 1, 2]


@given(st.lists(st.one_of(st.none(), st.tuples(EFFECTS, EFFECTS)), max_size=20))
def test_the_tiers_of_all_rounds_are_monotone_in_the_drifts(events: list[tuple[float, float] | None]) -> None:
    """Two streams with drifts at the same places, of which one rises at least as far each time. None: a round."""
    less, more = 0, 0
    since_drift = 0
    for event in events:
        if event is None:
            less, more = freeze(less), freeze(more)
            since_drift += 1
        else:
            less, more = unfreeze(less, min(event)), unfreeze(more, max(event))
            since_drift = 0
        assert less <= more < len(TIERS)
        assert more == 0 or since_drift < len(TIERS) - 1, "it froze again"


@pytest.mark.parametrize(("shift", "tier"), [(0.05, "task"), (0.24, "domain"), (0.4, "base")])
def test_distances_that_rise_further_unfreeze_a_deeper_tier(shift: float, tier: str) -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        watch = DriftWatch(delta=0.01)
        watch.add_texts(torch.tensor(rng.normal(0.4, 0.12, 700)))
        watch.add_texts(torch.tensor(rng.normal(0.4 + shift, 0.12, 400)))
        assert TIERS[watch.tier] == TIERS[watch.rehearsal_tier] == tier, (seed, watch.recent)
        assert DriftWatch(delta=0.01, state=watch.export()).tier == watch.tier


def test_each_round_on_labels_freezes_a_tier_until_texts_move_again() -> None:
    watch = DriftWatch(delta=0.01, state=DriftState(tier=2, is_urgent=True))
    assert [watch.begin_round("labels") for _ in range(4)] == [2, 1, 0, 0]
    assert not watch.is_urgent


def test_one_rehearsal_trains_the_deepest_tier_since_the_last_and_pseudo_labels_train_the_task_tier() -> None:
    watch = DriftWatch(delta=0.01, state=DriftState(tier=2, rehearsal_tier=2))
    assert [watch.begin_round(kind) for kind in ("labels", PSEUDO_LABELS, "rehearsal", "rehearsal")] == [2, 0, 2, 0]
    assert watch.begin_round("labels") == 1


def test_the_settings_name_the_tier_of_so_many_layers() -> None:
    assert [tier_name(layers, (1, 2, 4)) for layers in (1, 2, 3, 4)] == ["task", "domain", "base", "base"]
    assert tier_name(2, (2, 2, 2)) == tier_name(0, (0, 0, 0)) == "task"


RARELY: dict[str, Setting] = {
    "slow_every_labels": 5_000,
    "drift_min_labels": 320,
    "rehearsal_steps": 2,
    "rehearsal_passes": 1,
    "slow_batch": 32,
    "holdout_share": 0.0,
}


def drifted(after: Callable[[int], list[Answer | Feedback]]) -> Learner:
    """A learner whose first round has begun because the stream has changed after 300 labels."""
    it = tiered_learner(**RARELY)
    for number in range(600):
        it.learn_many(rightly_answered(number) if number < 300 else after(number), {})
        it.tick()
        if it.knowledge.round is not None:
            return it
    raise AssertionError("no drift was detected")


def trained_layers(made: TrainedEncoder, learner: Learner) -> set[int]:
    """The blocks that training has changed, counted from 0."""
    before = learner.knowledge.strata.state_dict()
    after = made.strata.state_dict().items()
    return {layer_index(name) for name, value in after if not torch.equal(value, before[name])}


def trained(learner: Learner) -> TrainedEncoder:
    """Takes all gradient steps of the round under way."""
    made = find_training(learner)
    while len(made.losses) < len(made.plan.steps):
        learner.tick()
    return made


def test_answers_that_got_worse_train_the_task_tier_alone() -> None:
    it = drifted(wrongly_answered)
    assert {drift.signal for drift in it.drift.recent} <= {"error", "classes 1-16"}
    assert trained_layers(trained(it), it) == {2}
    assert it.counts["rounds_task"] == 1 and it.knowledge.lineage.rounds[-1].layers == 1


def test_texts_from_far_away_train_all_tiers_and_then_fewer_again() -> None:
    it = drifted(far_away)
    assert [drift.signal for drift in it.drift.recent] == ["distance"]
    depths = list[set[int]]()
    for _ in range(3):
        depths.append(trained_layers(trained(it), it))
        it.knowledge.drop()
        it.begin("labels")
    assert depths == [{0, 1, 2}, {1, 2}, {2}]
    assert [it.counts[f"rounds_{tier}"] for tier in TIERS] == [2, 1, 1]
    it.knowledge.drop()
    it.begin("rehearsal")
    assert trained_layers(trained(it), it) == {0, 1, 2}
    assert [each.layers for each in it.knowledge.lineage.rounds] == [msgspec.UNSET, 2, 1, 1, msgspec.UNSET]


def test_a_restored_round_trains_as_deep_as_its_plan_says() -> None:
    whole = drifted(far_away)
    whole.knowledge.drop()
    whole.begin("labels")
    restored = tiered_learner(**RARELY)
    restored.restore(decode(encode(whole.export(None))))
    restored.drift.begin_round("labels")  # what drift says now does not matter to a round that has begun
    assert find_training(restored).plan == find_training(whole).plan
    assert trained_layers(trained(restored), restored) == trained_layers(trained(whole), whole) == {1, 2}


def test_the_kept_activations_of_all_boundaries_share_one_bound() -> None:
    it = drifted(far_away)
    kept = ActivationCache(max_bytes=40_000)
    it.fast_head.served.activations = kept
    for _ in range(3):
        trained(it)
        assert 0 < kept.num_bytes <= 40_000
        it.knowledge.drop()
        it.begin("labels")
