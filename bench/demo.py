"""Measures whole runs of `lifelong demo`, observed from outside: their figures, memory, and first answer.

    support            as `make demo` runs it: a support stream on a service that has learnt nothing
    clinc_continual    CLINC150, domain by domain through the live service at INT8

The support stream has two kinds of test items: some were written one by one, the others are made from the templates of
the training items. On CLINC150 the goal for the time from a label to an answer that has learnt it applies to the stable
arm, which gets most of the traffic. The time to the first answer includes starting all programs. The memory is the peak
of all processes together.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness.case import Run
from bench.harness.texts import clinc150
from evals.results.row import NoResult, Row
from services.resident_bytes import resident_bytes
from services.versions import ROOT
from wire.threads import BackgroundThread

POLL_INTERVAL_S = 2.0
LIMIT_S = 900.0
"""The usual time limit of a run."""

TOLD_CHARS = 2000
FIRST_ANSWER = re.compile(r"first answer ([0-9.]+) s after the start")


@dataclass(frozen=True, slots=True)
class DemoRun:
    """The measurements of one run."""

    figures: dict[str, Any]
    """The figures that the demo writes."""
    first_answer_s: float | None
    """The seconds from the start of the command to the first answer."""
    peak_bytes: int
    """The peak memory of all processes together (PSS)."""
    took_s: float


def run_clinc150() -> DemoRun:
    """Runs the demo on CLINC150. Raises Skip without data, and NoResult if the demo fails."""
    clinc150()
    return run_demo("--data", "clinc150")


def run_demo(*arguments: str, limit_s: float = LIMIT_S) -> DemoRun:
    """Runs the demo with these arguments.

    Raises NoResult if the demo does not finish, or if a program or a replica was restarted.
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
        is_over = _await_end(demo, limit_s)
        peak_bytes = peak.stop()
        took_s = time.monotonic() - start_s
        text = log.read_text()
        if not is_over:
            raise NoResult(f"lifelong demo did not end within the limit of {limit_s:g} s: {text[-TOLD_CHARS:]}")
        if not out.exists():
            raise NoResult(f"lifelong demo ended with {demo.returncode}: {text[-TOLD_CHARS:]}")
        match = FIRST_ANSWER.search(text)
        first_answer_s = float(match.group(1)) if match else None
        figures = json.loads(out.read_text())
        if num := figures["restarts"]:
            raise NoResult(f"lifelong demo: programs or replicas were restarted {num} times")
        return DemoRun(figures, first_answer_s, peak_bytes, took_s)


def _await_end(demo: subprocess.Popen[bytes], limit_s: float) -> bool:
    """Waits until the demo ends. Returns False if it had to be terminated after `limit_s`."""
    try:
        demo.wait(limit_s)
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
        """Samples the memory.

        consumes: the process table; produces: the peak; waits for: two seconds; unblocked by: `stop`
        """
        while not self._thread.closing.wait(POLL_INTERVAL_S):
            self._bytes = max(self._bytes, resident_bytes({"demo": self._pid})["demo"])


def measure_clinc150(run: Run) -> Iterator[Row]:
    done = run_clinc150()
    figures = done.figures
    yield Row.of("clinc_continual.accuracy", figures["accuracy_final"], "%", goal=">= 96.3")
    yield Row.of("clinc_continual.at_int8", percent_at_int8(figures["precisions"]), "% of answers", goal=">= 100")
    yield Row.of("clinc_continual.forgetting", figures["forgetting"], "points", goal="<= 0.3")
    yield Row.of("clinc_continual.first_seen", figures["accuracy_first_seen"], "%")
    yield Row.of("clinc_continual.lost", figures["lost"], "events", goal="<= 0")
    yield Row.of("clinc_continual.duplicates", figures["duplicates"], "events", goal="<= 0")
    seconds = figures["label_to_live_s"]
    yield Row.of("label_to_live.p50", seconds["p50"], "s, any arm")
    yield Row.of("label_to_live.p95", seconds["p95"], "s, any arm")
    yield Row.of("label_to_live.stable_p50", seconds["stable_p50"], "s", goal="<= 0.5")
    yield Row.of("label_to_live.stable_p95", seconds["stable_p95"], "s", goal="<= 1")
    yield Row.of("first_answer", done.first_answer_s, "s", goal="<= 45")
    yield Row.of("memory", round(done.peak_bytes / 2**30, 2), "GiB", goal="<= 4")


def percent_at_int8(precisions: Mapping[str, int]) -> float:
    """Returns the percentage of answers that were computed in INT8; a service may also answer in INT4.

    >>> percent_at_int8({"int8": 3, "int4": 1})
    75.0
    """
    return round(100 * precisions.get("int8", 0) / sum(precisions.values()), 3)


WRITTEN = "written one by one"
MADE = "made of templates"


def measure_support(run: Run) -> Iterator[Row]:
    done = run_demo()
    figures = done.figures
    by_kind = figures["accuracy_by_kind"]
    latency = figures["latency_ms"]
    accuracies = figures["prequential"]
    live = figures["label_to_live_s"]
    yield Row.of("demo.accuracy_written", by_kind[WRITTEN], "%")
    yield Row.of("demo.accuracy_made", by_kind[MADE], "%")
    yield Row.of("demo.first_seen", figures["accuracy_first_seen"], "%")
    yield Row.of("demo.oracle", accuracies["oracle"], "%")
    yield Row.of("demo.ratio", accuracies["ratio"], "of the oracle", goal=">= 1")
    yield Row.of("demo.stable_p50", live["stable_p50"], "s, label to live")
    yield Row.of("demo.stable_p95", live["stable_p95"], "s, label to live")
    yield Row.of("demo.latency_p99", latency["p99"], "ms")
    yield Row.of("demo.first_five_seconds_p99", latency["first_p99"], "ms", goal="<= 150")
    yield Row.of("demo.lost", figures["lost"], "events", goal="<= 0")
    yield Row.of("demo.first_answer", done.first_answer_s, "s", goal="<= 45")
    yield Row.of("demo.seconds", round(done.took_s, 1), "s", goal="<= 150")
    yield Row.of("demo.memory", round(done.peak_bytes / 2**30, 2), "GiB")
