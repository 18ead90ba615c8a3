"""Checks one call of a benchmark: what is printed, and what is left of it when it has no result."""

from collections.abc import Iterator

from bench.__main__ import _run
from bench.benches import Bench
from bench.fixtures import Fixtures
from bench.results import BenchRows
from bench.row import NoResult, Row, Skip


def half(fixtures: Fixtures) -> Iterator[Row]:
    yield Row.of(name="half.first", value=1.0, unit="s")
    raise NoResult("the learner was still busy after 120 s")


def skipped(fixtures: Fixtures) -> Iterator[Row]:
    yield from ()
    raise Skip("no data")


def run(bench: Bench) -> tuple[list[Row], list[str]]:
    said: list[str] = []
    rows = BenchRows(bench.name)
    _run(bench, Fixtures(said.append), rows)
    return list(rows), [text.split()[0] for text in said]


def test_a_row_is_printed_when_it_is_measured_and_a_benchmark_without_a_result_has_a_row() -> None:
    rows, said = run(Bench("half", half))
    assert [(row.name, row.met) for row in rows] == [("half.first", None), ("half.failed", False)]
    assert rows[1].calls[0].note == "the learner was still busy after 120 s"
    assert said == ["half.first", "half.failed", "half"]


def test_what_cannot_run_here_is_skipped_and_has_no_row() -> None:
    rows, said = run(Bench("skipped", skipped))
    assert rows == []
    assert said == ["skipped:", "skipped"]
