from functools import partial

import pytest

from learner.memory.replay import Labelled
from learner.slow.plan import StepPlan, draw_plan, step_sizes
from tests.learner.slow.rounds import SAMPLES, replay
from tests.learner.small import labelled


def sizes_of(step: StepPlan) -> tuple[int, list[int]]:
    return len(step.fresh), [len(replayed) for replayed in step.draws]


def test_half_of_every_step_is_fresh_and_half_is_balanced() -> None:
    draw = partial(draw_plan, fresh=SAMPLES[:10], steps=5, sizes=(4, 4), seed=0)
    plan = draw(1, replay=replay())
    assert [sizes_of(step) for step in plan.steps] == [(4, [4])] * 5
    fresh = list[Labelled]()
    for step in plan.steps:
        fresh += step.fresh
    assert set(fresh) == set(SAMPLES[:10])
    assert max(fresh.count(sample) for sample in fresh) == 2
    assert draw(1, replay=replay()) == plan
    assert draw(2, replay=replay()) != plan


@pytest.mark.parametrize("num_draws, sizes", [(0, (8, [])), (1, (4, [4])), (2, (4, [2, 2]))])
def test_the_draws_of_a_strategy_share_the_other_half(num_draws: int, sizes: tuple[int, list[int]]) -> None:
    for fresh in (SAMPLES[:10], []):  # without fresh samples the memory stands in
        plan = draw_plan(1, fresh, replay(), steps=2, sizes=step_sizes(8, num_draws), seed=0)
        assert [sizes_of(step) for step in plan.steps] == [sizes] * 2


def test_texts_without_a_label_are_listed_once_and_name_no_class() -> None:
    unlabelled = [sample._replace(label="") for sample in labelled(200, 210)]
    plan = draw_plan(1, unlabelled, replay(), steps=12, sizes=(4, 4), seed=0)
    assert sorted(plan.unlabelled) == sorted(sample.text for sample in unlabelled)
    assert "" not in plan.labels
