"""Starts a `bench.peers.engine`, asks it, and ends it. No answer is waited for without a limit."""

import json
import math
import os
import select
import subprocess
import sys
import time
from typing import Any

from bench.peers.cache import folder
from bench.peers.race import Contestant, Turn
from bench.peers.workloads import Workload
from bench.process import PeerFailed
from evals.results.row import Skip
from services.versions import ROOT

TURN_S = 0.12
START_S = 300.0
"""How long an encoder may take to be ready. The first time it exports, calibrates and compiles, beside all others."""

PREPARE_S = 300.0
"""How long it may take to prepare a batch: a search (rectangles.py), and what is compiled for that shape."""

ANSWER_S = 60.0
"""How long it may take for a turn."""


class Runner:
    """An encoder in its own process. Every method raises PeerFailed where the process ended, or took too long."""

    def __init__(self, name: str, num_threads: int) -> None:
        self.name = name
        self.num_threads = num_threads
        self._started_s = time.monotonic()
        self._log = folder("logs") / f"{name}-{num_threads}.txt"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.peers.engine", name, str(num_threads)],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": str(num_threads)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def wait(self, deadline_s: float = math.inf) -> None:
        """Waits until the encoder is ready. Raises Skip where it is left out here, PeerFailed where it is missing."""
        limit_s = min(START_S, deadline_s - self._started_s)
        answer = self._answer("ready", self._started_s + limit_s - time.monotonic(), limit_s)
        if why := answer.get("left_out"):
            raise Skip(why)
        if why := answer.get("missing"):
            raise PeerFailed(why)

    def prepare(self, workload: Workload, deadline_s: float = math.inf) -> Contestant:
        """Prepares the encoder for a workload."""
        answer = self._ask(workload, min(PREPARE_S, deadline_s - time.monotonic()))
        is_single_threaded = self.num_threads == 1
        return Contestant(
            name=self.name, time_turn=lambda: self.run(workload), is_single_threaded=is_single_threaded, **answer
        )

    def run(self, workload: Workload, seconds: float = TURN_S) -> Turn:
        """Times calls for `seconds`. `workload` must be prepared."""
        return Turn(**self._ask(workload, ANSWER_S, seconds=seconds))

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate()

    def _ask(self, workload: Workload, limit_s: float, **question: float) -> Any:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"work": workload.name} | question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it is gone; `_answer` says why
        return self._answer(f"done with {workload.name}", limit_s, limit_s)

    def _answer(self, what: str, left_s: float, limit_s: float) -> Any:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, left_s))
        if not ready:
            self._process.kill()
            raise PeerFailed(f"{self.name}: not {what} within the limit of {limit_s:.0f} s")
        if line := self._process.stdout.readline():
            return json.loads(line)
        raise PeerFailed(f"{self.name} ended with {self._process.wait()}: {self._log.read_text().strip()[-500:]}")
