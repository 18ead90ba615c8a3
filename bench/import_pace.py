"""Measures the import of labelled history into a service that has learnt nothing, by the command that a user runs.

    CLINC150's training texts as lines of JSON --lifelong import --wait--> labels at the broker --> a version knows them

Both rates have the same goal: the rate at which labels are sent, and the rate at which they are learnt. To time both in
one import, the command runs without `--wait`, and this process waits by the same function.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from bench.harness.case import Run
from bench.harness.process import lifelong_command
from bench.harness.service import fresh_stack
from bench.harness.texts import clinc150
from evals.results.row import NoResult, Row
from evals.streams.stream import StreamItem
from services.history.sending import NotLearntYet, await_version
from services.settings import Settings, as_environment
from wire.bus import Bus
from wire.store import Store

GOAL = 1_500
WAIT_S = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportSize:
    """The size of the benchmark."""

    rows: int = 15_000
    """The number of labelled texts in the file."""


@dataclass(frozen=True, slots=True)
class ImportRun:
    """The report that the command printed, and two times from its start: to its end, and to the version."""

    report: dict[str, Any]
    sent_s: float
    learnt_s: float


def measure(run: Run) -> Iterator[Row]:
    size = run.sized(ImportSize(), quick=ImportSize(rows=500))
    items = list(islice(cycle(clinc150().train_items), size.rows))
    with fresh_stack() as (stack, store, bus), tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "history.jsonl")
        path.write_bytes(b"".join(_line(number, item) for number, item in enumerate(items)))
        done = run_import(path, stack.settings, bus, store)
        if stack.num_restarts:
            raise NoResult(f"programs of the service ended and were restarted {stack.num_restarts} times")
    if done.report["sent"] != size.rows:
        raise NoResult(f"{done.report['sent']} of {size.rows} rows were sent: {done.report['refused_rows'][:3]}")
    note = f"{size.rows} rows, with the start of the command"
    goal = f">= {GOAL}"
    yield Row.of("import_pace.sent", round(size.rows / done.sent_s), "texts/s", goal=goal, note=note)
    yield Row.of("import_pace.learnt", round(size.rows / done.learnt_s), "texts/s", goal=goal, note=note)


def run_import(path: Path, settings: Settings, bus: Bus, store: Store) -> ImportRun:
    """Runs the command, and waits for a version that has learnt the labels. Raises NoResult if either fails."""
    start_s = time.monotonic()
    report = _run(path, settings)
    sent_s = time.monotonic() - start_s
    try:
        await_version(bus, store, timeout_s=WAIT_S)
    except NotLearntYet as error:
        raise NoResult(str(error)) from error
    return ImportRun(report, sent_s, time.monotonic() - start_s)


def _run(path: Path, settings: Settings) -> dict[str, Any]:
    argv = lifelong_command("import", str(path), "--json")
    environ = os.environ | as_environment(settings)
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=WAIT_S + 100, check=False)
    if done.returncode:
        raise NoResult(f"lifelong import ended with {done.returncode}: {done.stderr[-1000:]}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _line(number: int, item: StreamItem) -> bytes:
    return json.dumps({"id": f"row-{number}", "text": item.text, "label": item.label}).encode() + b"\n"
