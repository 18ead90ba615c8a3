"""A case of the ledger with two bars, and runs of cases."""

from collections.abc import Callable, Iterator
from pathlib import Path

from bench.harness.calls import KeptCalls, measure_once
from bench.harness.case import Bar, Case, Run, Technique
from evals.results.row import Peer, Row
from evals.results.rows import ResultLine, RowsByCall, Surroundings
from tests.evals.results.test_rows_result_line import HERE

FAST = Bar("fast", "steps/s", ">= 3x", baseline="the slow way")
RIGHT = Bar("right", "%", ">= 99", quick=">= 50", baseline="chance")


def two_rows(run: Run) -> Iterator[Row]:
    run.say("under way")
    yield run.row("right", run.amount(60, 99) + run.seed)
    yield run.row("fast", 8.0, peers=(Peer("slow", 2.0),), note="on a quiet machine")


def two(measure: Callable[[Run], Iterator[Row]] = two_rows) -> Case:
    technique = Technique(title="two", claim="It is claimed.", how="It is measured.", bars=(FAST, RIGHT))
    return Case.for_ledger("E0", measure, technique)


def make_run(case: Case, *, seed: int = 0, is_quick: bool = False, say: Callable[[str], None] = print) -> Run:
    return Run(case=case, say=say, seed=seed, is_quick=is_quick)


def measure_lines(
    case: Case,
    num_calls: int = 3,
    *,
    is_quick: bool = False,
    say: Callable[[str], None] = print,
    here: Surroundings = HERE,
    folder: Path | None = None,
) -> list[ResultLine]:
    """Returns the lines of a case after `num_calls` calls."""
    rows = RowsByCall(case.name, here)
    for seed in range(num_calls):
        measure_once(make_run(case, seed=seed, is_quick=is_quick, say=say), rows, KeptCalls(folder, here))
    return list(rows.lines())
