"""The other end of `bench.peers.engine`: starts one, asks it, ends it."""

import json
import os
import subprocess
import sys
from typing import Any

from bench.peers.cache import folder
from bench.peers.race import Contestant, Turn
from bench.peers.works import Work
from bench.process import PeerFailed
from bench.row import Skip
from services.versions import ROOT

TURN_S = 0.12


class Runner:
    """An encoder in its own process. Every verb raises PeerFailed where the process broke."""

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
        """Until it is there. Raises Skip where it cannot run here."""
        if why := self._answer().get("skip"):
            raise Skip(why)

    def prepare(self, work: Work) -> Contestant:
        found = self._ask(work)
        return Contestant(name=self.name, take=lambda: self.run(work), alone=self.num_threads == 1, **found)

    def run(self, work: Work, seconds: float = TURN_S) -> Turn:
        """Calls it for so long. `work` is prepared."""
        return Turn(**self._ask(work, seconds=seconds))

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate()

    def _ask(self, work: Work, **question: float) -> Any:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"work": work.name} | question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it is gone; `_answer` says why
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return json.loads(line)
        raise PeerFailed(f"{self.name} ended with {self._process.wait()}: {self._log.read_text().strip()[-500:]}")
