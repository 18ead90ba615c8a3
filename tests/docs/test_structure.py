"""The map of the code is true: every path in it exists, and every module is explained."""

import ast
import re

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


def test_the_way_of_a_label_is_short_and_each_file_is_called_by_one_before_it() -> None:
    way, _, _ = section("Feedback to weights").partition("Beside that way")
    rows = re.findall(r"^\| (\d+) \| `(learner/[\w/]+\.py)` \|", way, re.MULTILINE)
    assert [int(step) for step, _ in rows] == list(range(1, 21))
    called = {"learner.process"}
    for _, path in rows:
        assert path.removesuffix(".py").replace("/", ".") in called, f"{path} is called by no file before it"
        called |= set(imports(ROOT / path))


def test_the_glossary_is_short() -> None:
    words = [
        line for line in section("Glossary").splitlines() if line.startswith("| ") and not line.startswith("| word")
    ]
    assert 0 < len(words) <= 15
