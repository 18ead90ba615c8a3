"""A test that is marked `alone` runs beside no other, and what measures time is marked."""

import ast
import fcntl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.versions import ROOT
from tests.alone import turn
from tests.waiting import eventually

SHORT_S = 10.0


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A lock and a gate: those of the checkout are held while this test runs."""
    paths = {name: tmp_path / name for name in ("lock", "gate")}
    for path in paths.values():
        path.touch()
    return paths


class Runner:
    """A test in a thread: it begins when it may, and ends when it is told to."""

    def __init__(self, files: dict[str, Path], *, is_alone: bool) -> None:
        self.begun = threading.Event()
        self._go_on = threading.Event()
        self._files = files
        self._is_alone = is_alone
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._go_on.set()
        self._thread.join()

    def _run(self) -> None:
        with turn(is_alone=self._is_alone, **self._files):
            self.begun.set()
            self._go_on.wait()


def is_held(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_one_that_runs_alone_waits_for_others_and_those_that_come_later_wait_for_it(files: dict[str, Path]) -> None:
    first, second = (Runner(files, is_alone=False) for _ in range(2))
    assert first.begun.wait(30) and second.begun.wait(30), "two run side by side"
    alone = Runner(files, is_alone=True)
    eventually(lambda: is_held(files["gate"]))
    later = Runner(files, is_alone=False)
    first.end()
    assert not alone.begun.wait(0.1) and not later.begun.is_set()
    second.end()
    assert alone.begun.wait(30) and not later.begun.wait(0.1)
    alone.end()
    assert later.begun.wait(30)
    later.end()


def measures_of_time(function: ast.FunctionDef) -> Iterator[int]:
    """Yields the lines that assert that less than SHORT_S have gone by."""
    for node in ast.walk(function):
        match node:
            case ast.Compare(
                left=ast.BinOp(left=ast.Call(func=ast.Attribute(value=ast.Name(id="time"))), op=ast.Sub()),
                ops=[ast.Lt() | ast.LtE()],
                comparators=[ast.Constant(value=float() | int() as limit)],
            ) if limit < SHORT_S:
                yield node.lineno


def test_what_measures_a_short_time_runs_alone() -> None:
    unmarked: list[str] = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                marks = " ".join(map(ast.unparse, node.decorator_list))
                if "mark.alone" not in marks:
                    unmarked += [f"{path.relative_to(ROOT)}:{line}" for line in measures_of_time(node)]
    assert unmarked == []
