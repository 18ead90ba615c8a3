"""Checks one call of a benchmark: what is printed, and what is left of it when it has no result."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as under_test
from bench.__main__ import INTERRUPTED, _run, recorded
from bench.benches import Bench
from bench.fixtures import Fixtures
from bench.machine import PACKAGES
from evals.results import conditions
from evals.results.row import NoResult, Row, Skip
from evals.results.rows import RowsByCall, decode
from tests.evals.results.test_rows_result_line import HERE


@pytest.fixture(autouse=True)
def unobserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are observed for no time before and after a call."""
    monkeypatch.setattr(conditions, "PAUSE_S", 0.0)


def half(fixtures: Fixtures) -> Iterator[Row]:
    yield Row.of(name="half.first", value=1.0, unit="s")
    raise NoResult("the learner was still busy after 120 s")


def skipped(fixtures: Fixtures) -> Iterator[Row]:
    yield from ()
    raise Skip("no data")


def run(bench: Bench) -> tuple[list[Row], list[str]]:
    said: list[str] = []
    rows = RowsByCall(bench.name, HERE)
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


def values(line: dict[str, Any]) -> list[float | None]:
    return [call["value"] for call in line["calls"]]


def test_the_calls_before_an_error_are_recorded_and_the_one_with_it_has_no_value(tmp_path: Path) -> None:
    def breaks_at_last(fixtures: Fixtures) -> Iterator[Row]:
        number = next(numbers)
        yield Row.of(name="x.first", value=float(number), unit="s")
        if number == 3:
            raise RuntimeError("it fell over")
        yield Row.of(name="x.second", value=float(number), unit="s")

    said: list[str] = []
    numbers = iter((1, 2, 3))
    bench = Bench("x", breaks_at_last)
    path = tmp_path / "results.jsonl"
    with pytest.raises(RuntimeError), recorded((bench,), "python -m bench", path) as rows:
        for _ in range(3):
            _run(bench, Fixtures(said.append), rows["x"])
    first, second, failed = map(json.loads, path.read_text().splitlines())
    assert [len(line["conditions"]) for line in (first, second, failed)] == [3, 3, 3]
    assert values(first) == [1, 2, 3]
    assert values(second) == [1, 2, None]
    assert (failed["name"], values(failed)) == ("x.failed", [None, None, None])
    assert second["calls"][2]["note"] == INTERRUPTED


def test_all_benchmarks_of_a_command_have_one_machine_and_commit_and_versions_of_what_each_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer(name: str, value: Any) -> None:
        def ask(*_: object) -> Any:
            asked.append(name)
            return value

        monkeypatch.setattr(under_test, name, ask)

    answer("machine", "2 x processor")
    answer("commit", "b24c41f")
    answer("versions", dict.fromkeys(("python", *PACKAGES, "openvino", "broker"), "1"))
    answer("servers_given", {"broker": "given by address"})
    benches = (
        Bench("encoder", half, uses=("openvino",)),
        Bench("service", half, uses=("broker",)),
        Bench("chaos", half, uses=("broker",), has_own_servers=True),
    )
    path = tmp_path / "results.jsonl"
    with recorded(benches, "python -m bench", path) as rows:
        for bench in benches:
            rows[bench.name].add(Row.of(name=bench.name, value=1.0, unit="s"))
    encoder, service, chaos = map(decode, path.read_text().splitlines())
    assert sorted(asked) == ["commit", "machine", "servers_given", "versions"]
    common = {"python", *PACKAGES}
    assert encoder.versions.keys() - common == {"openvino"}
    assert service.versions.keys() - common == {"broker"}
    assert (service.versions["broker"], chaos.versions["broker"]) == ("given by address", "1")
