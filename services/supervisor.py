"""Keeps programs running: whatever ends is started again, later each time, and said in one line.

    add(program) -> runs -> ends -> waits 1, 2, 4, ... 60 s -> runs ...     20 s of life, and the wait is 1 s again

Until everything was ready once, an end that would only repeat itself (wrong settings, a fault of ours) ends the whole
start: somebody is looking, and has just changed something. From then on nothing that a program does ends the others,
for whoever serves must go on.

Rejected: a limit of restarts (who has reached it serves nothing any more), and restarting what depends on a program
that ended (clients wait for a server by themselves).
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from services.local import tether
from services.local.logfile import RotatingLog

LOOK_S = 0.1
"""How often the programs are looked at."""

FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0
LONG_LIFE_S = 20.0
"""A program that lived this long was of use, since each needs less to start: it is started again after the first
back-off. One that ends sooner, again and again, is a fault that a restart does not mend."""

FREE_WITHIN_S = 30.0
"""How long a program whose address is taken waits for it, beyond its back-off; then it says so itself."""

_SIGNALS = {number.value: number.name for number in signal.Signals}

REASON_CHARS = 300


class StackFailed(RuntimeError):
    """A part of the stack did not start, or ended before all were ready; the message has the end of its log."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """What is kept running. `start` starts it once more; `may_start`: what it needs to itself is free."""

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    log: RotatingLog
    may_start: Callable[[], bool] = lambda: True


@dataclass(slots=True)
class _Run:
    """Where one program stands: it runs, or it has ended and is due at `due_s`."""

    program: Program
    process: subprocess.Popen[bytes] | None
    started_s: float
    due_s: float
    num_ends: int = 0


class Supervisor:
    """The programs of one stack. Verbs: add, check, tolerate, hurry, ending, stop, close.

    They are started by a thread of its own, which begins with the first program and lives as long as they do: they are
    tethered to it.
    """

    def __init__(self, *, say: Callable[[str], None], clock_s: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock_s = clock_s
        self._changed = threading.Condition()
        self._runs: dict[str, _Run] = {}
        self._is_tolerant = False
        self._is_closing = False
        self._failure: StackFailed | None = None
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    @property
    def processes(self) -> dict[str, subprocess.Popen[bytes]]:
        """What runs now, by name."""
        with self._changed:
            return {name: run.process for name, run in self._runs.items() if run.process is not None}

    def add(self, program: Program, process: subprocess.Popen[bytes] | None = None) -> None:
        """Keeps `program` running from now on. `process`: it was started already."""
        with self._changed:
            now_s = self._clock_s()
            self._runs[program.name] = _Run(program, process, started_s=now_s, due_s=now_s)
            self._changed.notify_all()
            if self._thread.ident is None:
                self._thread.start()

    def check(self) -> None:
        """Raises StackFailed when a program has ended for good before `tolerate`."""
        with self._changed:
            if self._failure is not None:
                raise self._failure
        if self._thread.ident is not None and not self._thread.is_alive():
            raise RuntimeError("the supervisor ended by itself: a fault of ours")

    def tolerate(self) -> None:
        """Everything was ready: from now on no end of a program is for good."""
        with self._changed:
            self._is_tolerant = True

    def hurry(self) -> None:
        """What kept programs from running is over: starts now what waits."""
        with self._changed:
            for run in self._runs.values():
                run.due_s = min(run.due_s, self._clock_s())
            self._changed.notify_all()

    def ending(self, name: str) -> str:
        """What a program said last, as the end of a message about it; nothing of a program that is not ours."""
        with self._changed:
            run = self._runs.get(name)
        return run.program.log.ending() if run else ""

    def stop(self, *names: str, grace_s: float) -> None:
        """Ends programs together, those of them that there are; they are not started again."""
        with self._changed:
            runs = [self._runs.pop(name) for name in names if name in self._runs]
        for run in runs:
            if run.process is not None:
                run.process.terminate()
        for run in runs:
            if run.process is not None:
                tether.stop(run.process, grace_s=grace_s)
            run.program.log.close()

    def close(self) -> None:
        """Looks after nothing any more. What was not stopped ends with our thread."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        """Looks after the programs until closed.

        consumes: the ends of programs
        produces: their next starts, and a line for each end
        waits for: an end, a start that is due
        unblocked by: add, hurry and close, else a look every LOOK_S
        """
        with self._changed:
            while not self._is_closing:
                for run in list(self._runs.values()):
                    self._look(run)
                self._changed.wait(LOOK_S)

    def _look(self, run: _Run) -> None:
        now_s = self._clock_s()
        if run.process is None:
            late_s = now_s - run.due_s
            if late_s >= 0 and (run.program.may_start() or late_s > FREE_WITHIN_S):
                self._start(run, now_s)
        elif run.process.poll() is not None:
            self._ended(run, run.process.returncode, now_s)

    def _start(self, run: _Run, now_s: float) -> None:
        run.started_s = now_s
        try:
            run.process = run.program.start()
        except (OSError, RuntimeError) as error:  # no memory, process or thread to be had: as if it had ended at once
            self._wait(run, f"could not be started ({error})", now_s)

    def _ended(self, run: _Run, returncode: int, now_s: float) -> None:
        run.process = None
        program = run.program
        if not self._is_tolerant and is_fatal(returncode):
            failure = StackFailed(f"{program.name} {how(returncode)}{program.log.ending()}")
            self._failure = self._failure or failure
            run.due_s = float("inf")
            return
        if now_s - run.started_s >= LONG_LIFE_S:
            run.num_ends = 0
        self._wait(run, f"{how(returncode)}{_reason(returncode, program.log)}", now_s)

    def _wait(self, run: _Run, what: str, now_s: float) -> None:
        run.num_ends += 1
        delay_s = backoff_s(run.num_ends)
        run.due_s = now_s + delay_s
        self._say(f"{run.program.name} {what}; it is started again in {delay_s:g} s (log: {run.program.log.path})")


def backoff_s(num_ends: int) -> float:
    """The wait before the next start after so many ends in a row.

    >>> [backoff_s(num_ends) for num_ends in (1, 2, 3, 6, 7, 1_000_000)]
    [1.0, 2.0, 4.0, 32.0, 60.0, 60.0]
    """
    return min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(num_ends - 1, 10))


def is_fatal(returncode: int) -> bool:
    """Whether the same start would end the same way: not when it was killed, was told to stop, or asks for another."""
    return returncode > 0 and returncode != os.EX_TEMPFAIL


def how(returncode: int) -> str:
    """The end in words.

    >>> how(-9), how(78), how(75)
    ('was killed (SIGKILL)', 'ended with 78 (settings or set-up)', 'ended with 75 (try again)')
    """
    if returncode < 0:
        return f"was killed ({_SIGNALS.get(-returncode, f'signal {-returncode}')})"
    meaning = {os.EX_CONFIG: " (settings or set-up)", os.EX_TEMPFAIL: " (try again)"}.get(returncode, "")
    return f"ended with {returncode}{meaning}"


def _reason(returncode: int, log: RotatingLog) -> str:
    """The last line that a program said which ended by itself."""
    last = "".join(log.tail(1)) if returncode > 0 else ""
    return f": {last[:REASON_CHARS]}" if last else ""
