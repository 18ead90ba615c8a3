"""Starts the encoders of a race, each in a process of its own, prepares them, and reports those that cannot take part.

    names --running_encoders--> Field --prepare_all, by a deadline--> Contestants
    Runner controls one encoder in its process

The race continues without a peer that is missing, breaks, or is not ready by the deadline. Such a peer is named, and
the goals of the rows are not judged. Every wait for an answer has a time limit.
"""

import json
import math
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from bench.harness.process import PeerFailed
from bench.peers.engines import OURS, PEERS
from bench.peers.exported import folder
from bench.peers.race import Contestant, Turn
from bench.peers.workloads import Workload
from evals.results.row import Skip
from services.cores import num_cores
from services.versions import ROOT

TURN_S = 0.12
START_S = 300.0
"""The time limit for the start of an encoder. In its first start it exports, calibrates and compiles its model, at the
same time as all others."""

PREPARE_S = 300.0
"""The time limit for preparing a batch: a search (rectangles.py), and compilation for the batch's shape."""

ANSWER_S = 60.0
"""The time limit for a turn."""


class Runner:
    """An encoder in its own process. Every method raises PeerFailed if the process ended or exceeded its time limit."""

    def __init__(self, name: str, num_threads: int) -> None:
        self.name = name
        self.num_threads = num_threads
        self._started_s = time.monotonic()
        self._log = folder("logs") / f"{name}-{num_threads}.txt"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.peers.engines", name, str(num_threads)],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": str(num_threads)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def wait(self, deadline_s: float = math.inf) -> None:
        """Waits until the encoder is ready.

        Raises Skip if the encoder is left out on this machine, and PeerFailed if its library is missing.
        """
        limit_s = min(START_S, deadline_s - self._started_s)
        answer = self._answer("ready", self._started_s + limit_s - time.monotonic(), limit_s)
        if reason := answer.get("left_out"):
            raise Skip(reason)
        if reason := answer.get("missing"):
            raise PeerFailed(reason)

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
            # The process has ended. `_answer` raises the reason.
            pass
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


NO_TIME = "no time is left for peers in this call"

Say: TypeAlias = Callable[[str], None]
"""Prints a line of progress."""


@dataclass(frozen=True, slots=True)
class Field:
    """The encoders of a race: the running encoders, and the reasons why others do not run."""

    runners: dict[str, Runner]
    missing: dict[str, str]
    """Peer -> the reason why it could not start."""
    left_out: dict[str, str]
    """Peer -> the reason why it does not take part on this machine."""
    deadline_s: float = math.inf
    """The monotonic time until which peers may be prepared."""

    @property
    def is_over(self) -> bool:
        """Whether the time to prepare peers is over."""
        return time.monotonic() >= self.deadline_s

    @property
    def note(self) -> str:
        """The note of a row about peers that were left out."""
        return "; ".join(f"left out: {name} ({reason})" for name, reason in self.left_out.items())


@contextmanager
def running_encoders(names: Sequence[str], num_threads: int, say: Say, deadline_s: float = math.inf) -> Iterator[Field]:
    """Starts the encoders, and stops them on exit. Raises PeerFailed if one of our own encoders cannot run."""
    field = Field({}, {}, {}, deadline_s)
    if field.is_over:
        say(f"encoder: {NO_TIME}")
        field.missing.update((name, NO_TIME) for name in names if name in PEERS)
        names = [name for name in names if name not in PEERS]
    say(f"encoder: starting {len(names)} encoders with {num_threads} threads; the first start exports the models ...")
    with ExitStack() as stack:
        runners = {name: stack.enter_context(closing(Runner(name, num_threads))) for name in names}
        for name, runner in runners.items():
            try:
                runner.wait(deadline_s if name in PEERS else math.inf)
                field.runners[name] = runner
            except Skip as reason:
                say(f"encoder: {name}: left out: {reason}")
                field.left_out[name] = str(reason)
            except PeerFailed as error:
                if name not in PEERS:
                    raise
                say(f"encoder: {name}: missing: {error}")
                field.missing[name] = str(error)
        yield field


def prepare_all(field: Field, work: Workload, say: Say) -> tuple[dict[str, Contestant], list[str]]:
    """Prepares our encoder and the peers for a workload.

    Returns the prepared encoders by name, and the names of the peers that broke or had no time left. Single-threaded
    encoders are prepared in parallel, one on each core.
    """
    broken: list[str] = []

    def prepare(runner: Runner) -> Contestant | None:
        if runner.name not in PEERS:
            return runner.prepare(work)
        if field.is_over:
            broken.append(runner.name)
            return None
        try:
            return runner.prepare(work, field.deadline_s)
        except PeerFailed as error:
            say(f"encoder: {runner.name}: no {work.name}: {error}")
            broken.append(runner.name)
            return None

    runners = [runner for name, runner in field.runners.items() if name in (OURS, *PEERS)]
    with ThreadPoolExecutor(max(1, num_cores() // runners[0].num_threads)) as threads:
        entries = {entry.name: entry for entry in threads.map(prepare, runners) if entry}
    if field.is_over:
        say(f"encoder: {work.name}: {NO_TIME}")
    return entries, broken
