"""Checks that an experiment runs with every seed, and what becomes of those that cannot."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench.techniques.experiment import SEEDS, Figure, SeedRun
from bench.techniques.run import run_all
from evals.results import conditions
from evals.results.row import NoResult, Skip
from evals.results.rows import ResultLine
from tests.bench.techniques.test_experiment import TWO
from tests.evals.results.test_rows_result_line import HERE


@pytest.fixture(autouse=True)
def unobserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are observed for no time before and after a seed."""
    monkeypatch.setattr(conditions, "PAUSE_S", 0.0)


def skips(run: SeedRun) -> Iterator[Figure]:
    raise Skip("there is no data")


def fails_later(run: SeedRun) -> Iterator[Figure]:
    if run.seed:
        raise NoResult("it diverged")
    yield Figure(bar="right", value=99.0)


def lines_of(*experiments: object, is_quick: bool = False) -> tuple[list[ResultLine], list[str]]:
    said: list[str] = []
    chosen = [replace(TWO, measure=measure) for measure in experiments]  # type: ignore[arg-type]
    return list(run_all(chosen, is_quick=is_quick, data=None, surroundings=HERE, say=said.append)), said


def test_every_seed_is_a_call() -> None:
    right, fast = lines_of(TWO.measure)[0]
    assert [call.value for call in right.calls] == [99.0, 100.0, 101.0]
    assert (right.min, right.median, right.max, right.met) == (99.0, 100.0, 101.0, True)
    assert len(fast.calls) == len(fast.conditions) == SEEDS
    assert [len(line.calls) for line in lines_of(TWO.measure, is_quick=True)[0]] == [1, 1]


def test_what_cannot_run_has_no_line_and_the_next_one_runs() -> None:
    lines, said = lines_of(skips, TWO.measure)
    assert [line.name for line in lines] == ["E0.right", "E0.fast"]
    assert said[0] == "E0 is not run: there is no data"


def test_a_seed_without_a_result_is_not_met() -> None:
    right, failed = lines_of(fails_later)[0]
    assert [call.value for call in right.calls] == [99.0, None, None]
    assert right.met is False
    assert [call.note for call in failed.calls][1:] == ["it diverged"] * 2
