"""The map of the code is true: every path in it exists, and every module is explained."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.versions import ROOT
from tests.sources import ROOMS, files, imports, parsed

COMMANDS = "services/commands/"
"""Each file of this folder is the command of its name."""

TEXT = (ROOT / "docs" / "structure.md").read_text()

PATH = re.compile(r"`((?:" + "|".join((*ROOMS, "tests")) + r")/[\w/]*(?:\.\w+)?)`")


def section(heading: str) -> str:
    """Returns the section whose heading begins so."""
    (text,) = re.findall(rf"^## {heading}.*?(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    return str(text)


def test_every_path_exists() -> None:
    paths = PATH.findall(TEXT)
    assert len(paths) > 80
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_every_module_is_explained_where_its_folder_is() -> None:
    """The map names it, or the docstring of its package does."""
    unexplained: list[str] = []
    for path in files(*ROOMS):
        name = path.relative_to(ROOT).as_posix()
        if path.stem.startswith("__") or name.startswith(COMMANDS) or f"`{name}`" in TEXT:
            continue
        package = ast.get_docstring(parsed(path.parent / "__init__.py")) or ""
        if not re.search(rf"\b{path.stem}\b", package):
            unexplained.append(name)
    assert not unexplained


def test_every_large_module_says_what_was_rejected() -> None:
    """The settings and the commands have nothing to choose between."""
    large = [path for path in files(*ROOMS) if path.read_text().count("\n") > 150]
    names = [path.relative_to(ROOT).as_posix() for path in large if "ejected" not in path.read_text()]
    assert not [name for name in names if name != "learner/config.py" and not name.startswith(COMMANDS)]


def called_by(path: Path) -> Iterator[str]:
    """Yields the modules that a file imports, and those whose names a package that it imports passes on."""
    for name in imports(path):
        yield name
        package = ROOT / name.replace(".", "/") / "__init__.py"
        if package.exists():
            yield from imports(package)


@pytest.mark.parametrize(
    ("heading", "num_steps", "first", "parts"),
    [
        ("Event to answer", 17, "serving.kafka.intake", ["serving/pipeline.py"]),
        ("Feedback to weights", 21, "learner.process", []),
    ],
)
def test_each_file_on_the_way_is_called_by_one_before_it(
    heading: str, num_steps: int, first: str, parts: list[str]
) -> None:
    """The first one may be given others as `parts`: a record of a file of its own, which that file imports."""
    way, _, _ = section(heading).partition("Beside that way")
    rows = re.findall(r"^\| (\d+) \| `([\w/]+?)(?:/|\.py)` \|", way, re.MULTILINE)
    assert [int(step) for step, _ in rows] == list(range(1, num_steps + 1))
    called = {first, *(name for part in parts for name in called_by(ROOT / part))}
    for _, stem in rows:
        assert stem.replace("/", ".") in called, f"{stem} is called by no file before it"
        path = ROOT / f"{stem}.py"
        called |= set(called_by(path if path.exists() else ROOT / stem / "__init__.py"))


def test_an_event_passes_ten_files_of_serving_to_its_answer_and_three_to_the_broker() -> None:
    rows = [line for line in section("Event to answer").splitlines() if line.startswith("| ")]
    answered = next(number for number, row in enumerate(rows) if "`wire/receipts.py`" in row)
    assert [len(serving_files(part)) for part in (rows[:answered], rows)] == [10, 13]


def serving_files(rows: list[str]) -> set[str]:
    return {path for row in rows for path in PATH.findall(row) if path.startswith("serving/")}


def test_the_glossary_is_short() -> None:
    words = [
        line for line in section("Glossary").splitlines() if line.startswith("| ") and not line.startswith("| word")
    ]
    assert 0 < len(words) <= 15
