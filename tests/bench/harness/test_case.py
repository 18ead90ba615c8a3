"""Checks the goals of a run, its deadline, and the options of `--set`."""

import math
import time
from dataclasses import dataclass

import pytest

from bench.harness.case import BadOption, Run, parse_assignments, with_options
from tests.bench.harness.two import make_run, two


@dataclass(frozen=True)
class Size:
    seed: int = 0
    rate: float = 1.0
    only: str = ""


@pytest.mark.parametrize(("is_quick", "goal", "value"), [(True, ">= 50", 60), (False, ">= 99", 99)])
def test_a_quick_run_has_goals_of_its_own(is_quick: bool, goal: str, value: int) -> None:
    case = two()
    right, fast = case.measure(make_run(case, is_quick=is_quick))
    assert (right.name, right.goal, right.calls[0].value) == ("E0.right", goal, value)
    assert fast.calls[0].ratio == 4.0
    assert fast.met is (None if is_quick else True)


def test_a_row_without_a_bar_is_a_mistake() -> None:
    with pytest.raises(StopIteration):
        make_run(two()).row("other", 1.0)


def test_peers_have_a_deadline_if_all_cases_run() -> None:
    assert make_run(two()).deadline_s(240.0) == math.inf
    left_s = Run(case=two(), say=print, is_bounded=True).deadline_s(240.0) - time.monotonic()
    assert left_s == pytest.approx(240.0, abs=5.0)


def test_a_size_is_the_quick_one_or_the_full_one_with_the_options() -> None:
    run = Run(case=two(), say=print, is_quick=True, options={"rate": "3"})
    assert run.sized(Size(seed=5), quick=Size(seed=1)) == Size(1, 3.0)
    assert run.sized(Size(seed=5)) == Size(5, 3.0)
    assert make_run(two()).sized(Size(seed=5), quick=Size(seed=1)) == Size(5)


def test_fields_are_changed_by_their_types() -> None:
    assert with_options(Size(), parse_assignments(["seed=7", "rate=2.5", "only=kill"])) == Size(7, 2.5, "kill")
    assert with_options(Size(), {}) == Size()


@pytest.mark.parametrize(("options", "message"), [({"sed": "7"}, "only, rate, seed"), ({"seed": "x"}, "int")])
def test_a_wrong_option_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        with_options(Size(), options)


def test_an_assignment_has_a_value() -> None:
    with pytest.raises(BadOption, match="NAME=VALUE"):
        parse_assignments(["seed"])
