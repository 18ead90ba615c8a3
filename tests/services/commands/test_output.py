"""What commands print, and that all of them print it by one function."""

import ast
import json

import pytest

from services.commands.output import echo, json_lines
from services.versions import ROOT

SPOOFED = "e\x1b[2K\r\x1b]0;owned\x07\nall is well"


def test_a_line_is_one_line_that_obeys_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """N20."""
    echo(f"{SPOOFED} said this", "and Zoë that")
    echo(SPOOFED, is_error=True)
    printed = capsys.readouterr()
    assert printed.out == r"e\u001b[2K\r\u001b]0;owned\u0007\nall is well said this" + "\nand Zoë that\n"
    assert printed.err.rstrip("\n").isprintable()


def test_json_that_is_shown_is_the_same_json(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"name": SPOOFED, "other": ["Zoë", "\x9b", "\U000e0001", "\u202e"]}
    echo(*json_lines(value))
    shown = capsys.readouterr().out
    assert json.loads(shown) == value
    assert shown.replace("\n", "").isprintable() and "Zoë" in shown


def test_every_command_prints_by_it() -> None:
    """N20: `print` writes JSON alone, of which json.dumps has escaped whatever is not ASCII."""
    allowed = {"output.py": 1}
    found: dict[str, int] = {}
    for path in sorted((ROOT / "services" / "commands").glob("*.py")):
        calls = [each for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, ast.Call)]
        for call in calls:
            is_print = isinstance(call.func, ast.Name) and call.func.id == "print"
            if is_print and not ast.unparse(call).startswith("print(json.dumps("):
                found[path.name] = found.get(path.name, 0) + 1
            if isinstance(call.func, ast.Attribute) and call.func.attr == "echo":
                found[path.name] = found.get(path.name, 0) + 1
    assert found == allowed
