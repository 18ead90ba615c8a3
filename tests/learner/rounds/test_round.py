from collections import Counter
from dataclasses import replace
from typing import get_args

import pytest
import torch

from learner.config import LearnerConfig, SlowStrategy
from learner.encoder.base import top_state
from learner.fast.fast_head import FastHead
from learner.memory import Replay, hash_key
from learner.rounds.plan import RoundPlan, draw_plan, step_sizes
from learner.rounds.round import Phase, SlowRound, TrainedEncoder
from learner.rounds.strategies import draws_per_step
from learner.rounds.trial import UNIT
from learner.samples import Labelled
from rollout.publication_rule import verdict
from tests.learner.rounds.held_executor import HeldExecutor
from tests.learner.rounds.rounds import SAMPLES, fast_head, holdout, replay
from tests.learner.small_learner import SMALL, labelled, small_served, small_strata
from tests.learner.streams import TOPICS


def training(plan: RoundPlan, config: LearnerConfig = SMALL) -> TrainedEncoder:
    means_CD = fast_head().means(plan.labels)
    return TrainedEncoder(plan, means_CD, small_served(), small_strata(), config=config)


def trained(slow_round: SlowRound) -> TrainedEncoder:
    assert slow_round.trained is not None
    return slow_round.trained


def begin(plan: RoundPlan, config: LearnerConfig = SMALL, memory: Replay[Labelled] | None = None) -> SlowRound:
    """Begins a round; `memory` is a replay buffer, by default with all samples."""
    return SlowRound(training(plan, config), fast_head(), memory or replay(), holdout(), config=config)


def run(slow_round: SlowRound) -> list[Phase]:
    """Does all units of a round; returns the phase of each."""
    phases = list[Phase]()
    while slow_round.step() is not Phase.DONE:
        phases.append(slow_round.phase)
        assert slow_round.progress >= 0.0
        assert slow_round.progress <= 1.0
    return phases


def test_a_round_is_made_of_small_units() -> None:
    slow_round = begin(draw_plan(1, SAMPLES[:10], replay(), steps=3, sizes=step_sizes(8, 1), seed=0))
    counts = {Phase.TRAIN: 3, Phase.STORE: 1, Phase.READ: 1, Phase.REBUILD: 5, Phase.MEASURE: 8, Phase.COMPARE: 1}
    phases = run(slow_round)
    assert list(dict.fromkeys(phases)) == list(counts)
    assert Counter(phases) == counts
    assert slow_round.next_fast_head.ridge.num_samples == 90
    assert slow_round.next_fast_head.served.key != small_served().key


def test_sums_beyond_the_buffer_are_carried_over() -> None:
    memory = Replay[Labelled](30, 1 << 20, key_of=hash_key(0))
    memory.add(SAMPLES)
    plan = draw_plan(1, SAMPLES[:10], memory, steps=3, sizes=step_sizes(8, 1), seed=0)
    slow_round = begin(plan, memory=memory)
    phases = list(dict.fromkeys(run(slow_round)))
    assert phases[:4] == [Phase.TRAIN, Phase.STORE, Phase.READ, Phase.REBUILD]
    assert phases[4:] == [Phase.CARRY_OVER, Phase.MEASURE, Phase.COMPARE]
    assert slow_round.next_fast_head.ridge.num_by_class == fast_head().ridge.num_by_class


def test_a_round_on_texts_without_a_label_makes_pseudo_labels_first_and_rebuilds_from_labels_alone() -> None:
    unlabelled = [sample._replace(label="") for sample in labelled(200, 250)]
    plan = draw_plan(1, unlabelled, replay(), steps=12, sizes=(4, 4), seed=0)
    assert plan.labels == sorted(TOPICS)
    assert len(plan.unlabelled) == 48
    first = begin(plan)
    second = begin(plan)
    for slow_round in (first, second):
        assert run(slow_round)[:4] == [Phase.PSEUDO_LABEL] * 3 + [Phase.TRAIN]
        assert slow_round.next_fast_head.ridge.num_samples == 90
    assert torch.equal(first.next_fast_head.ridge.solve(), second.next_fast_head.ridge.solve())


def test_a_round_trains_with_token_dropout() -> None:
    plan = draw_plan(1, SAMPLES[:10], replay(), steps=1, sizes=(4, 4), seed=0)
    losses = []
    for share in (0.0, 0.5, 0.5):
        slow_round = begin(plan, replace(SMALL, slow_token_dropout=share))
        slow_round.step()
        losses.append(trained(slow_round).losses)
    assert losses[0] != losses[1]
    assert losses[1] == losses[2]


@pytest.mark.parametrize("name", get_args(SlowStrategy))
def test_a_repeated_round_gives_the_same_weights_bit_for_bit(name: SlowStrategy) -> None:
    config = replace(SMALL, slow_strategy=name, slow_loss_q=0.2)
    plan = draw_plan(1, SAMPLES[:10], replay(), steps=3, sizes=step_sizes(8, draws_per_step(name)), seed=0)
    first = begin(plan, config)
    second = begin(plan, config)
    run(first)
    run(second)
    again = top_state(trained(second).strata, 1)
    assert all(torch.equal(value, again[name]) for name, value in top_state(trained(first).strata, 1).items())
    assert torch.equal(first.next_fast_head.ridge.solve(), second.next_fast_head.ridge.solve())


def test_labels_during_a_round_are_learnt_under_the_new_encoder() -> None:
    memory = replay()
    base = fast_head()
    plan = draw_plan(1, SAMPLES[:10], memory, steps=1, sizes=(4, 4), seed=0)
    slow_round = SlowRound(training(plan), base, memory, holdout(), config=SMALL)
    # One comes before the replay buffer is read, one while it is learnt again, one at the end.
    for sample in labelled(200, 203):
        base.learn_many([sample])
        memory.add([sample])
        slow_round.learn_meanwhile([sample])
        while slow_round.step() in (Phase.TRAIN, Phase.STORE, Phase.READ):
            pass
    while slow_round.step() is not Phase.DONE:
        pass
    assert base.ridge.num_samples == 93
    assert slow_round.next_fast_head.ridge.num_samples == 93


def test_learning_and_unlearning_do_not_wait_for_a_running_unit() -> None:
    held = HeldExecutor()
    plan = draw_plan(1, SAMPLES[:10], replay(), steps=1, sizes=(4, 4), seed=0)
    slow_round = begin(plan)
    while slow_round.step() is not Phase.REBUILD:
        pass
    slow_round.step(held)
    slow_round.learn_meanwhile(labelled(200, 203), unlearnt=[SAMPLES[0], SAMPLES[89]])
    slow_round.step(held)
    assert not slow_round.is_ready
    held.finish()
    while slow_round.step(held) is not Phase.DONE:
        held.finish()
    assert slow_round.next_fast_head.ridge.num_samples == 91


def on_trial(memory: Replay[Labelled] | None = None) -> tuple[FastHead, SlowRound]:
    """Returns the current fast head, and a round that has trained and waits for labels."""
    base = fast_head()
    plan = draw_plan(1, SAMPLES[:10], replay(), steps=1, sizes=(4, 4), seed=0)
    own = (base, memory or replay(), holdout())
    slow_round = SlowRound(training(plan), *own, config=replace(SMALL, trial_labels=UNIT), rule=verdict)
    while slow_round.has_work:
        slow_round.step()
    return base, slow_round


def test_there_is_no_trial_without_a_rule() -> None:
    plan = draw_plan(1, SAMPLES[:10], replay(), steps=1, sizes=(4, 4), seed=0)
    slow_round = SlowRound(training(plan), fast_head(), replay(), holdout(), config=replace(SMALL, trial_labels=UNIT))
    assert Phase.TRIAL not in run(slow_round) and slow_round.trial is None


def test_a_round_on_trial_waits_for_labels_and_knows_them_at_the_end() -> None:
    base, slow_round = on_trial()
    assert slow_round.step() is Phase.TRIAL and slow_round.trial_result.paired.num == 0
    samples = labelled(200, 200 + UNIT + 1)
    for first, end in ((0, UNIT - 1), (UNIT - 1, UNIT), (UNIT, UNIT + 1)):
        assert slow_round.has_work == (first == UNIT)
        base.learn_many(samples[first:end])
        slow_round.learn_meanwhile(samples[first:end])
    while slow_round.has_work and slow_round.phase is not Phase.DONE:
        slow_round.step()
    assert slow_round.phase is Phase.DONE
    assert slow_round.trial_result.paired.num >= UNIT and slow_round.trial_result.before == base.served.key
    assert slow_round.next_fast_head.ridge.num_by_class == base.ridge.num_by_class


def test_a_trial_that_is_skipped_leaves_the_decision_to_the_holdout() -> None:
    _, slow_round = on_trial()
    while slow_round.step(may_wait=False) is not Phase.DONE:
        pass
    assert slow_round.is_adoptable(is_complete=True) == (
        slow_round.holdout_result.lost - slow_round.holdout_result.won < 2
    )
