"""Starts the encoders of a race, and prepares them for a workload; tells of those that cannot take part.

    names --started--> Field --prepared, by a deadline--> Contestants

A peer that is missing, breaks, or is not ready by the deadline is named: it is no reason to end the race, and the rows
are not judged without it.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from bench.peers.engines import OURS, PEERS
from bench.peers.race import Contestant
from bench.peers.runner import Runner
from bench.peers.workloads import Workload
from bench.process import PeerFailed
from evals.results.row import Skip
from services.cores import num_cores

NO_TIME = "no time is left for peers in this call"

Say: TypeAlias = Callable[[str], None]
"""Takes a line for the one who waits."""


@dataclass(frozen=True, slots=True)
class Field:
    """The encoders of a race: those that run, and why others do not."""

    runners: dict[str, Runner]
    missing: dict[str, str]
    """Why a peer that should run does not, by name."""
    left_out: dict[str, str]
    """Why a peer is no contender on this machine, by name."""
    deadline_s: float = math.inf
    """The monotonic time until which peers may be prepared."""

    @property
    def is_over(self) -> bool:
        """Whether the time to prepare peers is over."""
        return time.monotonic() >= self.deadline_s

    @property
    def note(self) -> str:
        """What a row says of the peers that were left out."""
        return "; ".join(f"left out: {name} ({why})" for name, why in self.left_out.items())


@contextmanager
def started(names: Sequence[str], num_threads: int, say: Say, deadline_s: float = math.inf) -> Iterator[Field]:
    """Starts the encoders, and ends them when left. Raises PeerFailed where one of ours cannot run."""
    field = Field({}, {}, {}, deadline_s)
    if field.is_over:
        say(f"encoder: {NO_TIME}")
        field.missing.update((name, NO_TIME) for name in names if name in PEERS)
        names = [name for name in names if name not in PEERS]
    say(f"encoder: {len(names)} encoders of {num_threads} threads are started; models are made the first time ...")
    with ExitStack() as stack:
        runners = {name: stack.enter_context(closing(Runner(name, num_threads))) for name in names}
        for name, runner in runners.items():
            try:
                runner.wait(deadline_s if name in PEERS else math.inf)
                field.runners[name] = runner
            except Skip as why:
                say(f"encoder: {name}: left out: {why}")
                field.left_out[name] = str(why)
            except PeerFailed as why:
                if name not in PEERS:
                    raise
                say(f"encoder: {name}: missing: {why}")
                field.missing[name] = str(why)
        yield field


def prepared(field: Field, work: Workload, say: Say) -> tuple[dict[str, Contestant], list[str]]:
    """Returns ours and the peers', and the names of those that broke, or for which no time was left.

    Where each has one thread, as many are prepared at a time as there are cores.
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
        except PeerFailed as why:
            say(f"encoder: {runner.name}: no {work.name}: {why}")
            broken.append(runner.name)
            return None

    chosen = [runner for name, runner in field.runners.items() if name in (OURS, *PEERS)]
    with ThreadPoolExecutor(max(1, num_cores() // chosen[0].num_threads)) as threads:
        entries = {entry.name: entry for entry in threads.map(prepare, chosen) if entry}
    if field.is_over:
        say(f"encoder: {work.name}: {NO_TIME}")
    return entries, broken
