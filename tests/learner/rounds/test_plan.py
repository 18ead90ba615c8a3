"""The batches of a slow round, and its depth."""

from collections import Counter
from functools import partial
from itertools import chain
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.config import SlowStrategy
from learner.rounds.plan import RoundPlan, StepPlan, draw_plan, step_sizes
from learner.rounds.strategies import draws_per_step
from learner.samples import Labelled
from tests.learner.rounds.rounds import SAMPLES, replay
from tests.learner.rounds.test_schedule import make_replay_buffer
from tests.learner.small_learner import labelled


def list_sizes(step: StepPlan) -> tuple[int, list[int]]:
    return len(step.fresh), [len(replayed) for replayed in step.draws]


def test_half_of_every_step_is_fresh_and_half_is_balanced() -> None:
    draw = partial(draw_plan, fresh=SAMPLES[:10], steps=5, sizes=(4, 4), seed=0)
    plan = draw(1, replay=replay())
    assert [list_sizes(step) for step in plan.steps] == [(4, [4])] * 5
    fresh = list[Labelled]()
    for step in plan.steps:
        fresh += step.fresh
    assert set(fresh) == set(SAMPLES[:10])
    assert max(fresh.count(sample) for sample in fresh) == 2
    assert draw(1, replay=replay()) == plan
    assert draw(2, replay=replay()) != plan


@pytest.mark.parametrize("num_draws, sizes", [(0, (8, [])), (1, (4, [4])), (2, (4, [2, 2]))])
def test_the_draws_of_a_strategy_share_the_other_half(num_draws: int, sizes: tuple[int, list[int]]) -> None:
    # Without fresh samples, all samples come from the replay buffer.
    for fresh in (SAMPLES[:10], []):
        plan = draw_plan(1, fresh, replay(), steps=2, sizes=step_sizes(8, num_draws), seed=0)
        assert [list_sizes(step) for step in plan.steps] == [sizes] * 2


@pytest.mark.parametrize("name", get_args(SlowStrategy))
@given(
    fresh=st.permutations(SAMPLES[:7]),
    held=st.permutations(SAMPLES[7:20]),
    size=st.integers(8, 12),
    steps=st.integers(1, 4),
)
def test_the_plan_depends_on_the_set_of_samples_and_not_on_their_order(
    name: SlowStrategy, fresh: list[Labelled], held: list[Labelled], size: int, steps: int
) -> None:
    sizes = step_sizes(size, draws_per_step(name))
    plan = draw_plan(1, fresh, make_replay_buffer(held), steps=steps, sizes=sizes, seed=0)
    assert plan == draw_plan(1, SAMPLES[:7], make_replay_buffer(SAMPLES[7:20]), steps=steps, sizes=sizes, seed=0)
    assert [list_sizes(step) for step in plan.steps] == [(sizes[0], list(sizes[1:]))] * steps
    taken = Counter(chain.from_iterable(step.fresh for step in plan.steps))
    times = [taken[sample] for sample in fresh]
    assert max(times) - min(times) <= 1


@pytest.mark.parametrize("name", get_args(SlowStrategy))
def test_draws_from_an_empty_buffer_have_no_samples(name: SlowStrategy) -> None:
    num_draws = draws_per_step(name)
    plan = draw_plan(1, SAMPLES[:7], make_replay_buffer([]), steps=2, sizes=step_sizes(8, num_draws), seed=0)
    assert [step.draws for step in plan.steps] == [[[]] * num_draws] * 2


def test_unlabelled_texts_are_listed_once_without_a_class() -> None:
    unlabelled = [sample._replace(label="") for sample in labelled(200, 210)]
    plan = draw_plan(1, unlabelled, replay(), steps=12, sizes=(4, 4), seed=0)
    assert sorted(plan.unlabelled) == sorted(sample.text for sample in unlabelled)
    assert "" not in plan.labels


@given(st.integers(0, 12))
def test_a_stored_plan_trains_as_deep(layers: int) -> None:
    plan = RoundPlan(number=1, steps=[StepPlan(fresh=SAMPLES[:2], draws=[SAMPLES[2:4]])], layers=layers)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(plan), type=RoundPlan) == plan


def test_a_plan_of_a_program_that_knew_no_tiers_trains_all_that_may_be_trained() -> None:
    old = msgspec.msgpack.encode({"number": 1, "steps": []})
    assert msgspec.msgpack.decode(old, type=RoundPlan).layers == 0
