from dataclasses import replace
from functools import partial

import pytest
import torch

from learner.config import LearnerConfig, SlowStrategy
from learner.fast.fast_head import FastTier
from learner.memory.holdout import Holdout
from learner.memory.replay import Labelled, Replay, hashed
from learner.slow.round import Phase, SlowRound, draw_plan, step_sizes
from learner.slow.trainer import top_state
from tests.learner.small import SMALL, labelled, small_served, small_strata
from tests.learner.streams import TOPICS

SAMPLES = labelled(0, 90)


def tier() -> FastTier:
    it = FastTier(small_served(), ridge=0.01)
    it.admit_all(TOPICS)
    it.learn_many(SAMPLES)
    return it


def replay() -> Replay[Labelled]:
    it = Replay[Labelled](1_000, 1 << 20, key_of=hashed(0))
    it.add(SAMPLES)
    return it


def holdout() -> Holdout:
    it = Holdout(Replay(100, 1 << 20, key_of=hashed(1)))
    it.add(labelled(100, 130))
    return it


def slow_round(config: LearnerConfig = SMALL, *, num_draws: int = 1) -> SlowRound:
    plan = draw_plan(1, SAMPLES[:10], replay(), steps=3, sizes=step_sizes(8, num_draws), seed=0)
    return SlowRound(plan, tier().means(plan.labels), tier(), small_strata(), config=config)


def test_half_of_every_step_is_fresh_and_half_is_balanced() -> None:
    draw = partial(draw_plan, fresh=SAMPLES[:10], steps=5, sizes=(4, 4), seed=0)
    plan = draw(1, replay=replay())
    assert [(len(step.fresh), [len(draw) for draw in step.draws]) for step in plan.steps] == [(4, [4])] * 5
    fresh = [sample for step in plan.steps for sample in step.fresh]
    assert set(fresh) == set(SAMPLES[:10]) and max(fresh.count(sample) for sample in fresh) == 2
    assert plan == draw(1, replay=replay()) != draw(2, replay=replay())


@pytest.mark.parametrize("num_draws, sizes", [(0, (8, [])), (1, (4, [4])), (2, (4, [2, 2]))])
def test_the_draws_of_a_strategy_share_the_other_half(num_draws: int, sizes: tuple[int, list[int]]) -> None:
    for fresh in (SAMPLES[:10], []):  # without fresh samples the memory stands in
        plan = draw_plan(1, fresh, replay(), steps=2, sizes=step_sizes(8, num_draws), seed=0)
        assert [(len(step.fresh), [len(draw) for draw in step.draws]) for step in plan.steps] == [sizes] * 2


def test_a_round_is_made_of_small_units() -> None:
    it = slow_round()
    memory = replay()
    held = holdout()
    phases = []
    while it.phase is not Phase.DONE:
        phases.append(it.phase)
        assert 0.0 <= it.progress <= 1.0
        it.step(memory, held)
    assert phases == [Phase.TRAIN] * 3 + [Phase.STORE] + [Phase.REBUILD] * 5 + [Phase.MEASURE] * 3
    assert it.next_tier.head.num_samples == 90 and it.next_tier.served.key != small_served().key


def test_a_round_on_texts_without_a_label_guesses_first_and_rebuilds_from_labels_alone() -> None:
    unlabelled = [sample._replace(label="") for sample in labelled(200, 250)]
    plan = draw_plan(1, unlabelled, replay(), steps=12, sizes=(4, 4), seed=0)
    assert plan.labels == sorted(TOPICS) and len(plan.unlabelled) == 48
    rounds = [SlowRound(plan, tier().means(plan.labels), tier(), small_strata(), config=SMALL) for _ in range(2)]
    held = holdout()
    for it in rounds:
        phases = []
        while it.phase is not Phase.DONE:
            phases.append(it.phase)
            assert 0.0 <= it.progress <= 1.0
            it.step(replay(), held)
        assert phases[:4] == [Phase.GUESS] * 3 + [Phase.TRAIN] and it.next_tier.head.num_samples == 90
    assert torch.equal(*(it.next_tier.head.solve() for it in rounds))


def test_a_round_trains_on_thinned_texts() -> None:
    plan = draw_plan(1, SAMPLES[:10], replay(), steps=1, sizes=(4, 4), seed=0)
    whole, thin, again = (
        SlowRound(plan, tier().means(plan.labels), tier(), small_strata(), config=replace(SMALL, slow_token_dropout=it))
        for it in (0.0, 0.5, 0.5)
    )
    for it in (whole, thin, again):
        it.step(replay(), holdout())
    assert whole.losses != thin.losses == again.losses


@pytest.mark.parametrize("name, num_draws", [("er", 1), ("der++", 2), ("lwf", 0)])
def test_a_repeated_round_gives_the_same_weights_bit_for_bit(name: SlowStrategy, num_draws: int) -> None:
    config = replace(SMALL, slow_strategy=name, slow_loss_q=0.2)
    held = holdout()
    first, second = (slow_round(config, num_draws=num_draws) for _ in range(2))
    for it in (first, second):
        while it.phase is not Phase.DONE:
            it.step(replay(), held)
    assert all(
        torch.equal(value, top_state(second.strata, 1)[name]) for name, value in top_state(first.strata, 1).items()
    )
    assert torch.equal(first.next_tier.head.solve(), second.next_tier.head.solve())


def test_labels_that_come_meanwhile_are_known_under_the_new_encoder() -> None:
    memory = replay()
    base = tier()
    held = holdout()
    new = labelled(200, 203)
    plan = draw_plan(1, SAMPLES[:10], memory, steps=1, sizes=(4, 4), seed=0)
    it = SlowRound(plan, base.means(plan.labels), base, small_strata(), config=SMALL)
    for sample in new:  # one before the memory is read, one while it is learnt again, one at the end
        base.learn_many([sample])
        memory.add([sample])
        it.also([sample])
        while it.step(memory, held) in (Phase.TRAIN, Phase.STORE):
            pass
    while it.step(memory, held) is not Phase.DONE:
        pass
    assert it.next_tier.head.num_samples == base.head.num_samples == 93
