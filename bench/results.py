"""Writes the rows: a table for people, and a JSON line each for later comparisons."""

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.machine import machine, versions
from bench.row import Row
from services.versions import ROOT, commit

BUILD = ROOT / "build"
RESULTS = BUILD / "bench" / "results.jsonl"


@contextmanager
def exclusive(console: Console) -> Iterator[None]:
    """Holds a file lock while a benchmark runs: two at a time would measure each other. Waits for the lock."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "bench.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print("Another benchmark runs in this checkout; waiting for its end.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def record(rows: Sequence[Row], command: str, path: Path = RESULTS) -> None:
    """Appends a line for each row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    surroundings = {"machine": machine(), "versions": versions(), "command": command, "commit": commit()}
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(as_json(row) | surroundings) + "\n" for row in rows)


def as_json(row: Row) -> dict[str, Any]:
    """Returns the measured part of a line."""
    return {
        "name": row.name,
        "value": row.value,
        "unit": row.unit,
        "goal": None if row.goal is None else str(row.goal),
        "met": row.met,
        "peer": None if row.peer is None else row.peer.name,
        "peer_value": None if row.peer is None else row.peer.value,
        "ratio": row.ratio,
    }


def table(rows: Sequence[Row]) -> Table:
    shown = Table(title=machine(), title_justify="left")
    shown.add_column("name", no_wrap=True)
    shown.add_column("value", justify="right")
    shown.add_column("unit")
    shown.add_column("goal", justify="right")
    shown.add_column("met")
    shown.add_column("peer")
    shown.add_column("its value", justify="right")
    shown.add_column("ratio", justify="right")
    for row in rows:
        shown.add_row(*_cells(row))
    return shown


def _cells(row: Row) -> list[str]:
    met = {True: "yes", False: "NOT MET", None: ""}[row.met]
    value = "none" if row.value is None else f"{row.value:g}"
    peer = ["", "", ""] if row.peer is None else [row.peer.name, f"{row.peer.value:g}", f"{row.ratio or 0:g}x"]
    goal = "" if row.goal is None else str(row.goal)
    return [row.name, value, row.unit, goal, met, *peer]
