"""Checks the stored lines and the document that is made of them."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.techniques.document import DOCUMENT, LINES, markdown, read_lines, store
from bench.techniques.experiment import SEEDS
from bench.techniques.run import EXPERIMENTS, run_all
from evals.results import conditions
from evals.results.rows import ResultLine
from evals.results.tables import MixedTable
from services.versions import ROOT
from tests.bench.techniques.test_experiment import TWO
from tests.evals.results.test_rows_result_line import HERE


@pytest.fixture(autouse=True)
def unobserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are observed for no time before and after a seed."""
    monkeypatch.setattr(conditions, "PAUSE_S", 0.0)


def measured(num_seeds: int = SEEDS) -> list[ResultLine]:
    runs = run_all([TWO], is_quick=False, data=None, surroundings=HERE, say=lambda text: None, num_seeds=num_seeds)
    return list(runs)


def test_a_row_that_was_not_run_says_so() -> None:
    text = markdown([TWO], {})
    assert "| `fast`, steps/s | not run | >= 3x | | the slow way | |" in text
    assert "It is claimed. It is measured." in text


def test_a_row_that_was_run_has_everything_beside_it() -> None:
    text = markdown([TWO], {line.name: line for line in measured()})
    run_of = "machine 1, b24c41f, `python -m bench`, 3 seeds; other processes took up to "
    assert f"| `right`, % | 100 (99 to 101) | >= 99 | yes | chance | {run_of}" in text
    assert f"| yes | the slow way; slow: 2; on a quiet machine | {run_of}" in text
    assert "1. 2 x processor" in text


def test_a_run_with_fewer_seeds_is_short() -> None:
    text = markdown([TWO], {line.name: line for line in measured(1)})
    assert "| short: yes | chance | machine 1, b24c41f, `python -m bench`, short: 1 seed; " in text
    text = markdown([TWO], {line.name: line for line in measured(2)})
    assert "`python -m bench`, short: 2 seeds; " in text


def test_the_rows_of_an_experiment_are_of_one_commit() -> None:
    right, fast = measured()
    with pytest.raises(MixedTable, match="abc1234"):
        markdown([TWO], {right.name: right, fast.name: replace(fast, commit="abc1234")})


def test_new_lines_take_the_place_of_old_ones(tmp_path: Path) -> None:
    right, fast = measured()
    for lines in ([right, fast], [right]):
        store(lines, [TWO], tmp_path)
    assert list(read_lines(tmp_path)) == ["E0.fast", "E0.right"]
    store([], [], tmp_path)
    assert read_lines(tmp_path) == {}


def test_the_document_of_the_project_is_that_of_its_lines() -> None:
    folder = ROOT / "docs"
    assert (folder / DOCUMENT).read_text() == markdown(EXPERIMENTS, read_lines(folder))
    assert (folder / LINES).exists()
