"""The published rows are lines as a benchmark writes them, and each says where, with what and how it was measured."""

import re
from statistics import median

import pytest

from bench.harness.machine import PACKAGES
from evals.results.rows import ResultLine, decode
from services.versions import ROOT

NEW = list(map(decode, (ROOT / "docs" / "results.jsonl").read_text().splitlines()))
EARLIER = list(map(decode, (ROOT / "docs" / "results-earlier.jsonl").read_text().splitlines()))
LINES = [*NEW, *EARLIER]


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.name}, {line.commit}")
def test_a_row_says_where_and_with_what_it_was_measured(line: ResultLine) -> None:
    assert re.match(r"\d+ x ", line.machine)
    known = {name for name, version in line.versions.items() if version}
    assert known >= {"python", *PACKAGES}
    assert line.command.startswith(("python -m bench", "lifelong ledger"))
    assert re.fullmatch(r"[0-9a-f]{7,}\+?", line.commit)


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.name}, {line.commit}")
def test_the_spread_of_a_row_is_that_of_its_calls(line: ResultLine) -> None:
    values = [call.value for call in line.calls if call.value is not None]
    spread = (min(values), median(values), max(values)) if values else (None, None, None)
    assert (line.min, line.median, line.max) == spread


def test_a_row_of_the_tables_is_of_a_commit_without_changes_and_says_what_ran_beside_it() -> None:
    assert not [line.name for line in NEW if line.commit.endswith("+") or not line.conditions]
