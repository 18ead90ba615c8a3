"""The map of the code is true: every path in it exists, and each file on a way is called by one before it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.versions import ROOT
from tests.sources import ROOMS, imports

TEXT = (ROOT / "docs" / "structure.md").read_text()

PATH = re.compile(r"`((?:" + "|".join((*ROOMS, "tests")) + r")/[\w/]*(?:\.\w+)?)`")


def section(heading: str) -> str:
    """Returns the section whose heading begins so."""
    (text,) = re.findall(rf"^## {heading}.*?(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    return str(text)


def test_every_path_exists() -> None:
    paths = PATH.findall(TEXT)
    assert len(paths) > 60
    assert not [path for path in paths if not (ROOT / path).exists()]


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
        ("Event to answer", 16, "serving.kafka.intake", ["serving/pipeline.py"]),
        ("Feedback to weights", 20, "learner.process", []),
    ],
)
def test_each_file_on_the_way_is_called_by_one_before_it(
    heading: str, num_steps: int, first: str, parts: list[str]
) -> None:
    """The first one may be given others as `parts`: a record of a file of its own, which that file imports."""
    rows = re.findall(r"^\| (\d+) \| `([\w/]+?)(?:/|\.py)` \|", section(heading), re.MULTILINE)
    assert [int(step) for step, _ in rows] == list(range(1, num_steps + 1))
    called = {first, *(name for part in parts for name in called_by(ROOT / part))}
    for _, stem in rows:
        assert stem.replace("/", ".") in called, f"{stem} is called by no file before it"
        path = ROOT / f"{stem}.py"
        called |= set(called_by(path if path.exists() else ROOT / stem / "__init__.py"))
