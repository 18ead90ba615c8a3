"""Checks the register, and the quick run of every case of the ledger: the mechanism works, the direction is right."""

import re

import pytest

from bench.harness.case import Case
from bench.harness.cases import CASES
from tests.bench.harness.two import measure_lines
from tests.required import missing

LEDGER = [case for case in CASES if case.technique]


def test_every_case_has_a_name_and_a_function_of_its_own() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert len({case.measure for case in CASES}) == len(names)


def test_the_bars_of_the_ledger_have_unique_names_and_baselines() -> None:
    rows = ["E1", "E2", "E3", "E4", "E5", "E6", "E7", "E8", "E9", "E10", "E11", "E12", "E13", "E15", "E17", "static"]
    assert [case.name for case in LEDGER] == rows
    for case in LEDGER:
        names = [bar.name for bar in case.bars]
        assert len(set(names)) == len(names)
        assert all(bar.baseline for bar in case.bars)


TIMED = ("times as", "/s", "a minute", "ms", "time")
"""Words of the unit of a bar that is timed."""


def test_a_quick_run_has_no_goal_for_a_time() -> None:
    """A time is measured on a quiet machine, and this suite runs on any."""
    bars = [bar for case in LEDGER for bar in case.bars if bar.quick]
    assert bars
    timed = [bar.name for bar in bars if any(re.search(rf"(?<![a-z]){word}(?![a-z])", bar.unit) for word in TIMED)]
    assert timed == []


LONG = ("E3", "E4", "E5", "E6", "E7", "E12", "E15", "E17")
"""Their quick runs take more than twenty seconds of two cores."""


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.slow if case.name in LONG else (), id=case.name) for case in LEDGER],
)
def test_the_quick_run_meets_its_goals(case: Case) -> None:
    said: list[str] = []
    lines = measure_lines(case, 1, is_quick=True, say=said.append)
    if not lines and "skipped" in said[0]:
        missing("ledger", said[0])
    assert len(lines) == len({line.name for line in lines}) > 0
    assert not [(line.name, line.median, line.goal) for line in lines if line.met is False]
