"""Checks how a figure becomes a row."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.techniques.experiment import Bar, Experiment, Figure, SeedRun
from evals.results.row import Goal, Peer

FAST = Bar(name="fast", unit="steps/s", goal=Goal(">=", 3, of_peer=True), baseline="the slow way")
RIGHT = Bar(name="right", unit="%", goal=Goal(">=", 99), quick=Goal(">=", 50), baseline="chance")


def two_figures(run: SeedRun) -> Iterator[Figure]:
    run.say("under way")
    yield Figure(bar="right", value=run.size(60, 99) + run.seed)
    yield Figure(bar="fast", value=8.0, peers=(Peer("slow", 2.0),), note="on a quiet machine")


TWO = Experiment(
    id="E0", title="two", claim="It is claimed.", how="It is measured.", bars=(FAST, RIGHT), measure=two_figures
)


def run(*, is_quick: bool, seed: int = 0) -> SeedRun:
    return SeedRun(seed=seed, is_quick=is_quick, data=Path("/data"), say=lambda text: None)


@pytest.mark.parametrize(("is_quick", "goal", "value"), [(True, ">= 50", 60), (False, ">= 99", 99)])
def test_a_quick_run_is_held_against_a_bar_of_its_own(is_quick: bool, goal: str, value: int) -> None:
    right, fast = (TWO.row_of(figure, is_quick=is_quick) for figure in TWO.measure(run(is_quick=is_quick)))
    assert (right.name, right.goal, right.calls[0].value) == ("E0.right", goal, value)
    assert fast.calls[0].ratio == 4.0
    assert fast.met is (None if is_quick else True)


def test_a_figure_without_a_bar_is_a_mistake() -> None:
    with pytest.raises(StopIteration):
        TWO.row_of(Figure(bar="other", value=1.0), is_quick=True)
