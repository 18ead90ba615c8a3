"""Every measured number of the documents is of a row, and the documents are what `make figures` makes of the rows."""

import fnmatch
import re
import runpy
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from evals.results.row import Row
from evals.results.rows import ResultLine, encode
from evals.results.tables import MixedTable
from services.versions import ROOT
from tests.evals.results.test_rows_result_line import HERE

FIGURES: dict[str, Any] = runpy.run_path(str(ROOT / "scripts" / "figures.py"))

BLOCK: re.Pattern[str] = FIGURES["BLOCK"]

CODE = re.compile(r"Python \d|`[^`]*`|\]\([^)]*\)|^ {4}.*$|<!--.*?-->", re.MULTILINE | re.DOTALL)
"""What a reader takes for no measured number: commands, names, links."""

NUMBER = re.compile(r"(?<![\w.-])\d[\d,.]*(?![\w-])")
"""Digits that are not a part of a name, as in INT8, CLINC150 or E7."""

MEASURED = {"README.md": "## Measured", "docs/benchmarks.md": "## Results"}
"""Where the measured part of a page begins."""


def page(name: str) -> str:
    return (ROOT / name).read_text()


def test_make_figures_leaves_no_difference() -> None:
    made = dict(FIGURES["documents"]())
    assert {path.name for path in made} == {"README.md", "benchmarks.md", "planning.md", "ledger.md"}
    assert not [path.name for path, text in made.items() if path.read_text() != text], "run `make figures`"


@pytest.mark.parametrize(("name", "begin"), MEASURED.items())
def test_no_number_stands_outside_of_the_tables_of_rows(name: str, begin: str) -> None:
    text = page(name)
    measured = CODE.sub("", BLOCK.sub("", text[text.index(begin) :]))
    assert not [line for line in measured.splitlines() if NUMBER.search(line)]


def test_a_table_in_the_readme_is_made_of_rows() -> None:
    rest = CODE.sub("", BLOCK.sub("", page("README.md")))
    assert not [line for line in rest.splitlines() if line.startswith("|") and NUMBER.search(line)]


def test_every_row_is_in_a_table_of_the_benchmarks() -> None:
    blocks = [words for _, words, _ in BLOCK.findall(page("docs/benchmarks.md"))]
    patterns = list(chain.from_iterable(map(FIGURES["parse_words"], blocks)))
    names = {line.name for line in FIGURES["read_result_lines"](FIGURES["RESULTS"])}
    shown = set(chain.from_iterable(fnmatch.filter(names, pattern) for pattern in patterns))
    assert not names - shown


def line(value: float, *, name: str = "fast", unit: str = "events/s", commit: str = "b24c41f") -> ResultLine:
    row = Row.of(name, value, unit, goal=">= 600")
    surroundings = type(HERE)(machine=HERE.machine, versions=HERE.versions, command=HERE.command, commit=commit)
    return ResultLine.of(row, surroundings)


def rebuilt(shown: str, *lines: ResultLine) -> str:
    text = f"before\n\n<!-- figures\n{shown}\n-->\nold\n<!-- end -->\n\nafter\n"
    return str(FIGURES["rebuilt"](text, list(lines), []))


def test_a_block_is_replaced_by_the_rows_that_it_names_and_the_rest_stays() -> None:
    text = rebuilt("fast: how fast it is\nslow.*", line(900.0))
    assert text.startswith("before\n\n<!-- figures\nfast: how fast it is\nslow.*\n-->\n")
    assert text.endswith("\n<!-- end -->\n\nafter\n")
    assert "| how fast it is | 900 events/s | >= 600 | yes |  |" in text
    assert "| `slow.*` | not measured |" in text
    assert "old" not in text


def test_a_block_says_which_goals_are_missed_and_how_many() -> None:
    lines = (line(500.0), line(700.0, name="other"))
    assert "| `fast` | >= 600 | 500 | 500 | events/s |" in rebuilt("missed goals", *lines)
    assert "`other`" not in rebuilt("missed goals", *lines)
    assert "1 of 2 goals are missed: " in rebuilt("number of missed goals", *lines)


def test_a_table_of_two_commits_is_refused() -> None:
    with pytest.raises(MixedTable, match="abc1234"):
        rebuilt("*", line(900.0), line(800.0, name="other", commit="abc1234"))


def test_new_rows_take_the_place_of_those_of_another_commit_which_are_kept_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {name: tmp_path / name for name in ("RESULTS", "EARLIER", "NEW")}
    stays = line(1.0, name="stays", commit="0000000")
    loss = line(1.0, name="E7.loss", unit="points of accuracy")
    contents = {
        "RESULTS": [line(700.0, commit="0000000"), stays],
        "EARLIER": [],
        "NEW": [line(600.0, commit="1111111"), line(900.0), loss, line(950.0)],
    }
    for name, lines in contents.items():
        files[name].write_bytes(b"".join(map(encode, lines)))
    for name in ("RESULTS", "EARLIER"):
        monkeypatch.setitem(FIGURES["add"].__globals__, name, files[name])
    monkeypatch.setitem(FIGURES["add"].__globals__, "DOCS", tmp_path)
    for _ in range(2):
        FIGURES["add"](files["NEW"])
    assert FIGURES["read_result_lines"](tmp_path / "ledger.jsonl") == [loss]
    assert FIGURES["read_result_lines"](files["RESULTS"]) == [stays, line(900.0), line(950.0)]
    assert FIGURES["read_result_lines"](files["EARLIER"]) == [line(700.0, commit="0000000")]
