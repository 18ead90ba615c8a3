"""The map of the code is true: every path in it exists, and every module is explained."""

import ast
import re

from services.versions import ROOT
from tests.sources import ROOMS, files, parsed

COMMANDS = "services/commands/"
"""Each file of this folder is the command of its name."""

TEXT = (ROOT / "docs" / "structure.md").read_text()

PATH = re.compile(r"`((?:" + "|".join((*ROOMS, "tests")) + r")/[\w/]*(?:\.\w+)?)`")


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


def test_the_glossary_is_short() -> None:
    glossary = TEXT[TEXT.index("## Glossary") :]
    words = [line for line in glossary.splitlines() if line.startswith("| ") and not line.startswith("| word")]
    assert 0 < len(words) <= 15
