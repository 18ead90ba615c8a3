"""Runs `lifelong demo`, watched from outside: its figures, its memory, its first answer."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.texts import clinc150
from evals.results.row import NoResult
from services.resident_bytes import resident_bytes
from services.versions import ROOT
from wire.threads import BackgroundThread

POLL_INTERVAL_S = 2.0
LIMIT_S = 900.0
"""How long the run may take."""

TOLD_CHARS = 2000
FIRST_ANSWER = re.compile(r"first answer ([0-9.]+) s after the start")


@dataclass(frozen=True, slots=True)
class DemoRun:
    """The measurements of one run."""

    figures: dict[str, Any]
    """The figures that the demo writes."""
    first_answer_s: float | None
    """Seconds from the command to the first answer."""
    peak_bytes: int
    """The most memory of all processes together (PSS)."""
    took_s: float


def run_clinc150() -> DemoRun:
    """Runs the demo on CLINC150. Raises Skip where there is no data, and NoResult."""
    clinc150()
    return run_demo("--data", "clinc150")


def run_demo(*arguments: str) -> DemoRun:
    """Runs the demo with these arguments.

    Raises NoResult where the demo did not come to its end, or where something had to be started again.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "figures.json"
        log = Path(folder) / "output.txt"
        argv = [sys.executable, "-m", "services.cli", "demo", *arguments, "--json", str(out)]
        env = {**os.environ, "LIFELONG_STATE_DIR": folder}
        start_s = time.monotonic()
        with log.open("w") as file:
            demo = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=file, stderr=subprocess.STDOUT)
        peak = PeakMemory(demo.pid)
        is_over = _await_end(demo)
        peak_bytes = peak.stop()
        took_s = time.monotonic() - start_s
        text = log.read_text()
        if not is_over:
            raise NoResult(f"lifelong demo did not end within the limit of {LIMIT_S:g} s: {text[-TOLD_CHARS:]}")
        if not out.exists():
            raise NoResult(f"lifelong demo ended with {demo.returncode}: {text[-TOLD_CHARS:]}")
        match = FIRST_ANSWER.search(text)
        first_answer_s = float(match.group(1)) if match else None
        figures = json.loads(out.read_text())
        if num := figures["restarts"]:
            raise NoResult(f"lifelong demo: {num} times a program or a replica was started again")
        return DemoRun(figures, first_answer_s, peak_bytes, took_s)


def _await_end(demo: subprocess.Popen[bytes]) -> bool:
    """Waits until the demo ends by itself; returns False where it was ended after LIMIT_S."""
    try:
        demo.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        return False
    finally:
        demo.terminate()
        demo.wait()
    return True


class PeakMemory:
    """Samples the memory of a process and all its descendants until it is stopped."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._bytes = 0
        self._thread = BackgroundThread(self._sample, name="bench-memory")
        self._thread.start()

    def stop(self) -> int:
        """Stops; returns the highest sample, in bytes."""
        self._thread.close()
        return self._bytes

    def _sample(self) -> None:
        """Samples.

        consumes: the process table; produces: the peak; waits for: two seconds; unblocked by: `stop`
        """
        while not self._thread.closing.wait(POLL_INTERVAL_S):
            self._bytes = max(self._bytes, resident_bytes({"demo": self._pid})["demo"])
