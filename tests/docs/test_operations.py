"""The table of faults names tests that exist."""

import ast
import re

import pytest

from services.versions import ROOT

HEADING = "## Every fault and its test"

RANGES = {"F0": "123456789", "F1": "012", "F2": "0123456789ABCDEF", "F3": "0123456789ABCD", "F4": "01234567"}
RANGES |= {"F5": "0123456789AB", "F6": "0123456789"}

ROW = re.compile(r"\| (F[0-9A-F]{2}) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|")
NAMED = re.compile(r"`([^`:]+)::(\w+)`")


def rows() -> list[tuple[str, ...]]:
    text = (ROOT / "docs" / "operate" / "faults.md").read_text()
    return [match.groups() for match in ROW.finditer(text[text.index(HEADING) :])]


def test_every_fault_has_a_row_in_order() -> None:
    expected: list[str] = []
    for begin, ends in RANGES.items():
        expected += [begin + end for end in ends]
    assert len(expected) == 72
    found = [row[0] for row in rows()]
    assert found == expected


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_its_tests_exist(row: tuple[str, ...]) -> None:
    named = NAMED.findall(row[3])
    assert named
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text())
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, f"{path}::{name}"
