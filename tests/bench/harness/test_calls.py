"""Checks calls of a case: the printed and recorded rows, the rows of a call without a result, and the kept rows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bench.harness import calls as under_test
from bench.harness.calls import INTERRUPTED, KeptCall, KeptCalls, measure_once, recording, surroundings_by_case
from bench.harness.case import SEEDS, Case, Run
from bench.harness.machine import PACKAGES
from evals.results.row import NoResult, Peer, Row, Skip
from evals.results.rows import decode
from tests.bench.harness.two import make_run, measure_lines, two, two_rows
from tests.evals.results.test_rows_result_line import CONDITIONS, HERE

CLEAN = replace(HERE, commit="abc1234")
NOWHERE = KeptCalls(None, HERE)


def half(run: Run) -> Iterator[Row]:
    yield Row.of("half.first", 1.0, "s")
    raise NoResult("the learner was still busy after 120 s")


def skipped(run: Run) -> Iterator[Row]:
    yield from ()
    raise Skip("no data")


def test_a_row_is_printed_when_it_is_measured_and_a_case_without_a_result_has_a_row() -> None:
    said: list[str] = []
    first, failed = measure_lines(Case("half", half), 1, say=said.append)
    assert (first.name, first.met, failed.name, failed.met) == ("half.first", None, "half.failed", False)
    assert failed.calls[0].note == "the learner was still busy after 120 s"
    assert [text.split()[0] for text in said] == ["half.first", "half.failed", "half"]


def test_a_case_that_cannot_run_is_skipped_and_has_no_row() -> None:
    said: list[str] = []
    assert measure_lines(Case("skipped", skipped), 1, say=said.append) == []
    assert [text.split()[0] for text in said] == ["skipped:", "skipped"]


def test_every_seed_is_a_call() -> None:
    right, fast = measure_lines(two())
    assert [each.value for each in right.calls] == [99.0, 100.0, 101.0]
    assert (right.min, right.median, right.max, right.met) == (99.0, 100.0, 101.0, True)
    assert len(fast.calls) == len(fast.conditions) == SEEDS


def test_a_seed_without_a_result_is_not_met() -> None:
    def fails_later(run: Run) -> Iterator[Row]:
        if run.seed:
            raise NoResult("it diverged")
        yield run.row("right", 99.0)

    right, failed = measure_lines(two(fails_later))
    assert [each.value for each in right.calls] == [99.0, None, None]
    assert right.met is False
    assert [each.note for each in failed.calls][1:] == ["it diverged"] * 2


def values(line: dict[str, Any]) -> list[float | None]:
    return [each["value"] for each in line["calls"]]


def test_the_calls_before_an_error_are_recorded_and_the_one_with_it_has_no_value(tmp_path: Path) -> None:
    def breaks_at_last(run: Run) -> Iterator[Row]:
        yield Row.of("x.first", float(run.seed), "s")
        if run.seed == 2:
            raise RuntimeError("it fell over")
        yield Row.of("x.second", float(run.seed), "s")

    case = Case("x", breaks_at_last)
    path = tmp_path / "results.jsonl"
    with pytest.raises(RuntimeError), recording({"x": HERE}, path) as rows:
        for seed in range(3):
            measure_once(make_run(case, seed=seed), rows["x"], NOWHERE)
    first, second, failed = map(json.loads, path.read_text().splitlines())
    assert [len(line["conditions"]) for line in (first, second, failed)] == [3, 3, 3]
    assert values(first) == [0, 1, 2]
    assert values(second) == [0, 1, None]
    assert (failed["name"], values(failed)) == ("x.failed", [None, None, None])
    assert second["calls"][2]["note"] == INTERRUPTED


def test_all_cases_of_a_command_have_one_machine_and_commit_and_their_own_versions(
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
    answer("external_servers", {"broker": "given by address"})
    cases = (
        Case("encoder", half, uses=("openvino",)),
        Case("service", half, uses=("broker",)),
        Case("chaos", half, uses=("broker",), has_own_servers=True),
    )
    path = tmp_path / "results.jsonl"
    with recording(surroundings_by_case(cases, "python -m bench"), path) as rows:
        for case in cases:
            rows[case.name].add(Row.of(case.name, 1.0, "s"))
    encoder, service, chaos = map(decode, path.read_text().splitlines())
    assert sorted(asked) == ["commit", "external_servers", "machine", "versions"]
    common = {"python", *PACKAGES}
    assert encoder.versions.keys() - common == {"openvino"}
    assert service.versions.keys() - common == {"broker"}
    assert (service.versions["broker"], chaos.versions["broker"]) == ("given by address", "1")


ROWS = (Row.of("E0.right", 99.5, "%", goal=">= 99", peers=(Peer("other", 98.0),), note="a note"), Row.of("x", None, ""))


def test_rows_are_kept_as_they_are(tmp_path: Path) -> None:
    kept = KeptCalls(tmp_path, CLEAN)
    assert kept.read(two(), 1) is None
    kept.write(two(), 1, ROWS, CONDITIONS[0])
    assert KeptCalls(tmp_path, CLEAN).read(two(), 1) == KeptCall(CLEAN.machine, ROWS, CONDITIONS[0])
    assert kept.read(two(), 2) is None


def test_rows_belong_to_a_commit_and_a_machine(tmp_path: Path) -> None:
    KeptCalls(tmp_path, CLEAN).write(two(), 1, ROWS, None)
    for other in (replace(CLEAN, commit="def5678"), replace(CLEAN, machine="another")):
        assert KeptCalls(tmp_path, other).read(two(), 1) is None


def test_neither_a_tree_with_changes_nor_a_case_without_seeds_is_kept(tmp_path: Path) -> None:
    KeptCalls(tmp_path, replace(CLEAN, commit="abc1234+")).write(two(), 1, ROWS, None)
    KeptCalls(tmp_path, CLEAN).write(Case("half", half), 1, ROWS, None)
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_measured_again(tmp_path: Path) -> None:
    kept = KeptCalls(tmp_path, CLEAN)
    kept.write(two(), 1, ROWS, None)
    (file,) = tmp_path.rglob("*.json")
    file.write_bytes(file.read_bytes()[:-3])
    assert kept.read(two(), 1) is None


def test_a_run_that_was_stopped_goes_on_and_gives_the_same_lines(tmp_path: Path) -> None:
    seeds: list[int] = []
    stops_at = [1]

    def measure(run: Run) -> Iterator[Row]:
        if run.seed in stops_at:
            stops_at.clear()
            raise KeyboardInterrupt
        seeds.append(run.seed)
        yield from two_rows(run)

    with pytest.raises(KeyboardInterrupt):
        measure_lines(two(measure), here=CLEAN, folder=tmp_path)
    gone_on = measure_lines(two(measure), here=CLEAN, folder=tmp_path)
    at_once = measure_lines(two(), here=CLEAN)
    assert [line.calls for line in gone_on] == [line.calls for line in at_once]
    assert [len(line.conditions) for line in gone_on] == [3, 3]
    assert seeds == [0, 1, 2]
    assert measure_lines(two(measure), here=CLEAN, folder=tmp_path) == gone_on


def test_a_seed_without_a_result_is_tried_again(tmp_path: Path) -> None:
    def fails(run: Run) -> Iterator[Row]:
        yield run.row("right", 99.0)
        raise NoResult("it diverged")

    measure_lines(two(fails), here=CLEAN, folder=tmp_path)
    assert KeptCalls(tmp_path, CLEAN).read(two(), 0) is None
