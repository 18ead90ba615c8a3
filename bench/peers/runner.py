"""Starts a `bench.peers.engine`, asks it, and ends it."""

import json
import os
import subprocess
import sys
from typing import Any

from bench.peers.cache import folder
from bench.peers.race import Contestant, Turn
from bench.peers.workloads import Workload
from bench.process import PeerFailed
from bench.row import Skip
from services.versions import ROOT

TURN_S = 0.12


class Runner:
    """An encoder in its own process. Every method raises PeerFailed where the process ended."""

    def __init__(self, name: str, num_threads: int) -> None:
        self.name = name
        self.num_threads = num_threads
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

    def wait(self) -> None:
        """Waits until the encoder is ready. Raises Skip where it cannot run here."""
        if why := self._answer().get("skip"):
            raise Skip(why)

    def prepare(self, workload: Workload) -> Contestant:
        """Prepares the encoder for a workload."""
        answer = self._ask(workload)
        is_single_threaded = self.num_threads == 1
        return Contestant(
            name=self.name, time_turn=lambda: self.run(workload), is_single_threaded=is_single_threaded, **answer
        )

    def run(self, workload: Workload, seconds: float = TURN_S) -> Turn:
        """Times calls for `seconds`. `workload` must be prepared."""
        return Turn(**self._ask(workload, seconds=seconds))

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate()

    def _ask(self, workload: Workload, **question: float) -> Any:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"work": workload.name} | question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it is gone; `_answer` says why
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return json.loads(line)
        raise PeerFailed(f"{self.name} ended with {self._process.wait()}: {self._log.read_text().strip()[-500:]}")
