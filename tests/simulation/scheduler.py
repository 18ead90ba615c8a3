"""Runs the tasks of a simulated world one at a time, on a clock of its own, in an order that the seed decides.

    task --waits--> heap of (time, lot, task) --earliest--> runs until it waits again      no time passes while it runs

Every task is a greenlet: it has a stack of its own, so the code under test is the code of the product, with its loops
and its locks; but only one task runs. Tasks that wake at the same time run in the order of lots that the seed draws. A
process is a group of tasks that dies as one: each of them raises `Killed` where it waits, and nothing that it does
afterwards has an effect. Torch keeps by thread whether it records gradients; the scheduler keeps it by task.

Rejected: a thread of the operating system for each task (a turn takes 25 us more, and there are 9,000 turns), and an
event loop (the product's code is not written as coroutines).
"""

import heapq
import math
import signal
from collections.abc import Callable
from hashlib import blake2b
from random import Random
from typing import Any, Final

import torch
from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]

STUCK_S: Final = 120
"""Real seconds after which a simulation is given up: one of its tasks never waits."""

MAX_TURNS: Final = 400_000
"""Most turns of tasks in one simulation: more means that something runs in circles while no time passes."""


class Killed(BaseException):
    """The process of this task was killed."""


class Stuck(Exception):
    """The simulation cannot go on: a task never waits, or all of them wait for ever."""


class Process:
    """A group of tasks that is killed as one. `skew_ms` is how far its wall clock is ahead of the simulation's.

    `number` tells it from those of its name before it.
    """

    def __init__(self, name: str, number: int = 0, *, skew_ms: int = 0) -> None:
        self.name = name
        self.number = number
        self.is_killed = False
        self.skew_ms = skew_ms


class Task:
    """One thread of a process. `entry` is the number of the entry in the heap that counts; older ones are stale."""

    def __init__(self, process: Process, name: str, run: Callable[[], None], scheduler: "Scheduler") -> None:
        self.process = process
        self.name = name
        self.is_over = False
        self.on_end: list[Callable[[], None]] = []
        self.entry = 0
        self.stack = greenlet(self._begin, parent=scheduler.stack)
        self._run = run
        self._scheduler = scheduler

    def _begin(self) -> None:
        """Runs on a stack of its own, from the first turn on."""
        torch.set_grad_enabled(True)
        try:
            if not self.process.is_killed:
                self._run()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001  # whatever it is, `Scheduler.run` returns it
            self._scheduler.fail(error)
        self.is_over = True
        for notify in self.on_end:
            notify()
        self._scheduler.end(self)


class Scheduler:
    """The clock, the tasks and the only source of chance of one simulation."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.now_s = 0.0
        self.current: Task | None = None
        self.trace: list[str] = []
        """The newest events, for whoever reads why a seed failed."""
        self._lots = Random(seed + 1)
        self._tasks: list[Task] = []
        self._heap: list[tuple[float, float, int, Task]] = []
        self._num_entries = 0
        self.num_turns = 0
        self._is_closing = False
        self._failure: BaseException | None = None
        self.stack = getcurrent()
        self._digest = blake2b(digest_size=16)

    def note(self, what: str) -> None:
        """Adds an event to the trace, and to its digest."""
        self.show(what)
        self._digest.update(self.trace[-1].encode())

    def show(self, what: str) -> None:
        """Adds something to the trace for its reader alone."""
        self.trace.append(f"{self.now_s:10.4f} {self.current.name if self.current else '':<22} {what}")

    @property
    def digest(self) -> str:
        """The digest of everything that has happened: equal for two runs of one seed."""
        return self._digest.hexdigest()

    def start(self, process: Process, name: str, run: Callable[[], None]) -> Task:
        """Starts a task of a process: it has its first turn when the current one waits."""
        task = Task(process, f"{process.name}.{name}", run, self)
        self._tasks.append(task)
        self.wake(task)
        return task

    def wake(self, task: Task, at_s: float | None = None) -> None:
        """Gives a task that waits its next turn at a time, by default now."""
        self._num_entries += 1
        task.entry = self._num_entries
        heapq.heappush(self._heap, (self.now_s if at_s is None else at_s, self._lots.random(), self._num_entries, task))

    def pause(self, seconds: float = math.inf) -> None:
        """Lets the current task wait for so long, or until somebody wakes it. Raises Killed."""
        task = self.current
        assert task is not None, "only a task can wait"
        self.check(task)
        if seconds < math.inf:
            self.wake(task, self.now_s + seconds)
        else:
            task.entry = -1
        following = self._next()
        if following is not task:
            has_gradients = torch.is_grad_enabled()
            self._switch_to(following)
            if torch.is_grad_enabled() is not has_gradients:
                torch.set_grad_enabled(has_gradients)
        self.current = task
        self.check(task)

    def check(self, task: Task) -> None:
        """Raises Killed where the task's process is dead."""
        if task.process.is_killed:
            raise Killed(task.name)

    def kill(self, process: Process) -> None:
        """Kills a process as `kill -9` does: none of its tasks does anything more."""
        process.is_killed = True
        self.note(f"kill {process.name}")
        for task in self._tasks:
            if task.process is process and not task.is_over and task is not self.current:
                self.wake(task)

    def fail(self, error: BaseException) -> None:
        """Ends the simulation with an error, unless it has one already."""
        self._failure = self._failure or error

    def run(self, process: Process, main: Callable[[], None]) -> BaseException | None:
        """Runs `main` and what it starts until `main` ends, and kills the rest. Returns what a task has raised, first.

        It runs in the main thread alone, which has the alarm.
        """
        signal.signal(signal.SIGALRM, self._give_up)
        signal.alarm(STUCK_S)
        self.start(process, "main", main).on_end.append(self._close)
        while not self._is_closing:
            self._switch_to(self._next())
        for task in list(self._tasks):
            task.process.is_killed = True
            self._switch_to(task)
        signal.alarm(0)
        torch.set_grad_enabled(True)
        if isinstance(self._failure, KeyboardInterrupt):
            raise self._failure
        return self._failure

    def end(self, task: Task) -> None:
        """Takes note that a task is over: `run` chooses the next."""
        self._tasks.remove(task)
        self._is_closing = self._is_closing or self._failure is not None

    def _close(self) -> None:
        self._is_closing = True

    def _give_up(self, *_: Any) -> None:
        raise Stuck(f"{self.current.name if self.current else 'nobody'} has run for {STUCK_S} s")

    def _next(self) -> Task | None:
        """Takes the next entry from the heap, and moves the clock there; None where nobody would ever wake."""
        self.num_turns += 1
        while self._heap and self.num_turns < MAX_TURNS:
            at_s, _, number, task = heapq.heappop(self._heap)
            if task.entry == number and not task.is_over:
                self.now_s = max(self.now_s, at_s)
                return task
        return None

    def _switch_to(self, task: Task | None) -> None:
        """Lets a task go on where it waits; without one, the simulation is over."""
        if task is None:
            self._failure = self._failure or Stuck(f"at {self.now_s:.3f} s, after {self.num_turns} turns")
            self._is_closing = True
        self.current = task or self.current
        (task or self).stack.switch()
