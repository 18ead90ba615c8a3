"""Checks the stored lines and the document that is generated from them."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.harness.case import SEEDS
from bench.harness.cases import CASES
from bench.harness.ledger import DOCUMENT, LINES, markdown, merge_lines, read_lines
from evals.results.rows import ResultLine, encode
from evals.results.tables import MixedTable
from services.versions import ROOT
from tests.bench.harness.two import measure_lines, two


def measured(num_seeds: int = SEEDS) -> list[ResultLine]:
    return measure_lines(two(), num_seeds)


def test_a_row_that_was_not_run_says_so() -> None:
    text = markdown([two()], {})
    assert "| `fast`, steps/s | not run | >= 3x | | the slow way | |" in text
    assert "It is claimed. It is measured." in text


def test_a_measured_row_has_value_goal_and_conditions() -> None:
    text = markdown([two()], {line.name: line for line in measured()})
    run = "machine 1, b24c41f, `python -m bench`, 3 seeds; other processes took up to "
    assert f"| `right`, % | 100 (99 to 101) | >= 99 | yes | chance | {run}" in text
    assert f"| yes | the slow way; slow: 2; on a quiet machine | {run}" in text
    assert "1. 2 x processor" in text


def test_a_run_with_fewer_seeds_is_short() -> None:
    text = markdown([two()], {line.name: line for line in measured(1)})
    assert "| short: yes | chance | machine 1, b24c41f, `python -m bench`, short: 1 seed; " in text
    text = markdown([two()], {line.name: line for line in measured(2)})
    assert "`python -m bench`, short: 2 seeds; " in text


def test_the_rows_of_a_case_are_of_one_commit() -> None:
    right, fast = measured()
    with pytest.raises(MixedTable, match="abc1234"):
        markdown([two()], {right.name: right, fast.name: replace(fast, commit="abc1234")})


def test_new_lines_take_the_place_of_old_ones(tmp_path: Path) -> None:
    right, fast = measured()
    for lines in ([right, fast], [right]):
        merge_lines(lines, [two()], tmp_path)
    assert list(read_lines(tmp_path, [two()])) == ["E0.fast", "E0.right"]
    merge_lines([replace(right, name="right")], [], tmp_path)
    assert read_lines(tmp_path, [two()]) == {}


def test_a_line_of_another_unit_is_not_shown_under_the_bar(tmp_path: Path) -> None:
    """Five bars stood as met by the lines of easier measurements that had had their names."""
    right, fast = measured()
    merge_lines([replace(right, unit="% of the mean"), fast], [two()], tmp_path)
    assert list(read_lines(tmp_path, [two()])) == ["E0.fast"]
    (tmp_path / LINES).write_bytes(encode(replace(right, unit="% of the mean")))
    assert read_lines(tmp_path, [two()]) == {}


def test_each_stored_line_belongs_to_a_bar() -> None:
    folder = ROOT / "docs"
    assert len(read_lines(folder, CASES)) == len((folder / LINES).read_text().splitlines())


def test_the_document_is_up_to_date_with_the_lines() -> None:
    folder = ROOT / "docs"
    assert (folder / DOCUMENT).read_text() == markdown(CASES, read_lines(folder, CASES))
    assert (folder / LINES).exists()
