"""Every command, option and setting that the documents name exists."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from services.cli import program
from services.settings import Settings
from services.settings_docs import documented_name, schemas
from services.versions import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

RECORDED = ROOT / "docs/ledger.md"
"""Its rows have the command that was run then, of their commit."""

EARLIER = ROOT / "docs/benchmarks-earlier.md"
"""Its figures are of the settings that there were then."""

NEWEST = [page for page in PAGES if page not in (RECORDED, EARLIER)]

CODE = re.compile(r"(?s:```.*?```)|`([^`]+)`|^ {4}(.+)$", re.MULTILINE)
"""A fenced block, which is data or Python, or a span or an indented line of code."""
COMMAND = re.compile(r"(?:^|[\s/(])lifelong ((?:(?!the )[a-z|-]+)(?: [^|&;#]*)?)")
OPTION = re.compile(r"(?<!\S)(--[a-z][a-z0-9-]+)")
SETTING = re.compile(r"^([a-z_]+(?:\.[a-z_0-9]+)+)(?: = .*|=.*)?$")

FILE = re.compile(r"\.(log|jsonl?|toml|ya?ml|py)(\.\d)?$")

SECTIONS = {name.partition(".")[0] for name in schemas(Settings) if "." in name}


def code(path: Path) -> Iterator[str]:
    for one, other in CODE.findall(path.read_text()):
        if one or other:
            yield " ".join((one or other).split())


def commands() -> Any:
    return typer.main.get_command(program())


@pytest.mark.parametrize("page", [page for page in PAGES if page != RECORDED], ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    wrong: list[str] = []
    for text in code(page):
        for match in COMMAND.finditer(f" {text}"):
            words = match.group(1).split()
            command = commands()
            while words and hasattr(command, "commands"):
                names = words.pop(0).split("|")
                if names == ["COMMAND"] or names[0].startswith("-"):
                    break
                if unknown := [name for name in names if name not in command.commands]:
                    wrong.append(f"lifelong {match.group(1)}: {unknown[0]}")
                    break
                command = command.commands[names[0]]
            else:
                known = {
                    option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
                }
                used = OPTION.findall(" " + " ".join(words))
                wrong += [f"lifelong {match.group(1)}: {option}" for option in used if option not in {*known, "--help"}]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", NEWEST, ids=lambda page: page.name)
def test_settings_exist(page: Path) -> None:
    known = schemas(Settings).keys()
    wrong: list[str] = []
    for text in code(page):
        match = SETTING.match(text)
        if match and not FILE.search(text) and match.group(1).partition(".")[0] in SECTIONS:
            name = documented_name(Settings, match.group(1))
            is_secret = name.removesuffix("_file") in known  # every secret may be in a file
            if name not in known and not is_secret and not any(each.startswith(f"{name}.") for each in known):
                wrong.append(name)
    assert not wrong, "\n".join(wrong)
