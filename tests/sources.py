"""The project's own files as syntax trees, for the tests that read them."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from services.versions import ROOT

ROOMS = (
    "lifelong",
    "lifelong/compress",
    "lifelong/media",
    "lifelong/plugins",
    "wire",
    "kernels",
    "model",
    "serving",
    "learner",
    "rollout",
    "evals",
    "services",
    "bench",
)
"""The folders of the rooms. A room within another one is a room of its own."""


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def files(*rooms: str) -> Iterator[Path]:
    """Yields the files of rooms, or of other folders, without the rooms within them."""
    for room in rooms:
        inner = [ROOT / each for each in ROOMS if each.startswith(f"{room}/")]
        for path in sorted((ROOT / room).rglob("*.py")):
            if not any(path.is_relative_to(folder) for folder in inner):
                yield path


def find_room(module: str) -> str:
    """Returns the room that a module belongs to, "" if it is not one of ours."""
    rooms = [room for room in ROOMS if f"{module}.".startswith(f"{room.replace('/', '.')}.")]
    return max(rooms, key=len, default="")


def imports(path: Path) -> Iterator[str]:
    """Yields the modules that are imported, and `module.name` for each name that is imported from one."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level and node.module, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
