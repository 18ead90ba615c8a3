"""The project's own files as syntax trees, for the tests that read them."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from services.versions import ROOT

ROOMS = ("lifelong", "wire", "kernels", "model", "serving", "learner", "rollout", "evals", "services", "bench")


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def files(*rooms: str) -> Iterator[Path]:
    for room in rooms:
        yield from sorted((ROOT / room).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Yields the modules that are imported, and `module.name` for each name that is imported from one."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level and node.module, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
