"""Learners in processes of their own, one after another or side by side, on the same state, bus and store."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from learner.failpoints import VARIABLE
from learner.state.checkpoints import Checkpoints
from learner.state.snapshot import Snapshot
from tests.learner.small_learner import save_encoder
from tests.waiting import eventually
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.records import Answer, Feedback, LearnerReport
from wire.store import Store

ROOT = Path(__file__).parents[2]


class LearnerProcesses:
    """Starts learners with `changed` settings; `close` kills those that still run."""

    program = "tests.learner.learner_process"

    def __init__(self, folder: Path, bus_config: BusConfig, store_config: StoreConfig, **changed: Any) -> None:
        (folder / "encoder").mkdir()
        self.state_dir = folder / "state"
        self._args = [
            json.dumps({"state_dir": str(self.state_dir), **changed}),
            save_encoder(folder / "encoder"),
            bus_config.bootstrap_servers,
            bus_config.prefix,
            store_config.url,
            store_config.prefix,
        ]
        self._running: list[subprocess.Popen[str]] = []

    def start(self, failpoint: str = "") -> subprocess.Popen[str]:
        env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
        env |= {VARIABLE: failpoint} if failpoint else {}
        command = [sys.executable, "-m", self.program, *self._args]
        child = subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self._running.append(child)
        return child

    def snapshot(self) -> Snapshot:
        """The newest checkpoint."""
        snapshot = Checkpoints(self.state_dir, num_newest=3).newest()
        assert snapshot is not None
        return snapshot

    def close(self) -> None:
        for child in self._running:
            with suppress(ProcessLookupError):
                child.send_signal(signal.SIGCONT)
            child.kill()
            child.wait()
            if child.stdout:
                child.stdout.close()


def wait_for(store: Store, holds: Callable[[LearnerReport], bool], *, since_ms: int = 0) -> None:
    """Waits for a report for which `holds` is true. Reports from before `since_ms`, of killed learners, are ignored."""

    def has_come() -> bool:
        time.sleep(0.05)
        report = store.reports.learner()
        return report is not None and report.time_ms > since_ms and holds(report)

    eventually(has_come, within_s=90)


def exit_code(child: subprocess.Popen[str]) -> int:
    """Waits for the end of a child."""
    child.communicate(timeout=60)
    return child.returncode


def stop(child: subprocess.Popen[str]) -> int:
    """Asks a child to stop; returns its exit code."""
    child.terminate()
    return exit_code(child)


def send(bus: Bus, records: Iterable[Answer | Feedback]) -> None:
    publisher = bus.publisher()
    for record in records:
        publisher.send(record)
    publisher.flush(30)
    publisher.close()
