"""Keeps programs running: restarts a program that ends, with exponential back-off, and reports each end in one line.

    add(program) -> runs -> ends -> 1, 2, 4, ... 60 s after its start -> runs ...     after 20 s: 1 s again

The back-off is counted from the program's last start, because it bounds how often a program is started. So a program
that ran for longer than its back-off is restarted after the shortest pause.

Until all programs are ready for the first time, an end that a restart would only repeat (wrong settings, a bug) fails
the whole start: the user is watching, and has just changed something. After that, the end of a program never ends the
others, since the service must go on.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from services.local import children
from services.local.logfile import RotatingLog
from wire.backoff import Backoff

POLL_INTERVAL_S = 0.1
"""How often the supervisor checks whether programs have ended."""

BACKOFF = Backoff(first_s=1.0, longest_s=60.0)
LONG_LIFE_S = 20.0
"""After a run of this length the back-off starts over. Every program needs less time to start, so it was ready. A
program that repeatedly ends sooner has a fault that a restart does not repair."""

FREE_WITHIN_S = 30.0
"""How long a program waits for its address, beyond its back-off. Then it is started, and reports the conflict."""

_SIGNALS = {number.value: number.name for number in signal.Signals}

REASON_CHARS = 300


class StackFailed(RuntimeError):
    """A program did not start, or ended before all programs were ready. The message has the end of its log."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """A supervised program. `start` starts it; `may_start` says whether its exclusive resource, a port, is free."""

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    log: RotatingLog
    may_start: Callable[[], bool] = lambda: True


@dataclass(slots=True)
class _Run:
    """The state of one program: it runs as `process`, or it has ended (None) and its restart is due at `due_s`."""

    program: Program
    process: subprocess.Popen[bytes] | None
    started_s: float
    due_s: float
    num_ends: int = 0


class Supervisor:
    """The programs of one stack. Verbs: add, check, tolerate, skip_backoff, ending, stop, close.

    The supervisor's own thread starts the programs. They are killed when this thread ends, so it runs from the first
    `add` to `close`. `say` gets a line whenever a program has ended. It is called under the lock and must not block.
    """

    def __init__(self, *, say: Callable[[str], None], clock_s: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock_s = clock_s
        self._changed = threading.Condition()
        self._runs: dict[str, _Run] = {}
        self._num_restarts = 0
        self._is_tolerant = False
        self._is_closing = False
        self._failure: StackFailed | None = None
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    @property
    def processes(self) -> dict[str, subprocess.Popen[bytes]]:
        """The running processes by name."""
        with self._changed:
            return {name: run.process for name, run in self._runs.items() if run.process is not None}

    @property
    def num_restarts(self) -> int:
        """How often a program ended, or could not be started, and was scheduled for a restart."""
        with self._changed:
            return self._num_restarts

    def add(self, program: Program, process: subprocess.Popen[bytes] | None = None) -> None:
        """Keeps `program` running from now on. `process` is its process if it was started already."""
        with self._changed:
            now_s = self._clock_s()
            self._runs[program.name] = _Run(program, process, started_s=now_s, due_s=now_s)
            self._changed.notify_all()
            if self._thread.ident is None:
                self._thread.start()

    def check(self) -> None:
        """Raises StackFailed if a program has ended fatally before `tolerate`."""
        with self._changed:
            if self._failure is not None:
                raise self._failure
        if self._thread.ident is not None and not self._thread.is_alive():
            raise RuntimeError("the thread of the supervisor has ended unexpectedly: this is a bug of Lifelong")

    def tolerate(self) -> None:
        """Notes that all programs were ready. From now on every program that ends is restarted."""
        with self._changed:
            self._is_tolerant = True

    def skip_backoff(self) -> None:
        """Restarts all programs that wait for their back-off now, because the cause of their ends is gone."""
        with self._changed:
            for run in self._runs.values():
                run.due_s = min(run.due_s, self._clock_s())
            self._changed.notify_all()

    def ending(self, name: str) -> str:
        """Returns the end of a program's log, to append to a message; empty for a program that is not supervised."""
        with self._changed:
            run = self._runs.get(name)
        return run.program.log.ending() if run else ""

    def stop(self, *names: str, grace_s: float) -> None:
        """Ends the named programs, all at the same time, and does not restart them. Unknown names are ignored."""
        with self._changed:
            runs = [self._runs.pop(name) for name in names if name in self._runs]
        # All processes get SIGTERM before the first is awaited, so that they end at the same time.
        for run in runs:
            if run.process is not None:
                run.process.terminate()
        for run in runs:
            if run.process is not None:
                children.stop(run.process, grace_s=grace_s)
            run.program.log.close()

    def close(self) -> None:
        """Ends the thread of the supervisor, and with it the programs that were not stopped."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        """Supervises the programs until closed.

        consumes: the ends of programs
        produces: their restarts, and a line for each end
        waits for: an end, a start that is due
        unblocked by: add, skip_backoff and close, else a poll every POLL_INTERVAL_S
        """
        with self._changed:
            while not self._is_closing:
                for run in list(self._runs.values()):
                    self._poll(run)
                self._changed.wait(POLL_INTERVAL_S)

    def _poll(self, run: _Run) -> None:
        now_s = self._clock_s()
        if run.process is None:
            overdue_s = now_s - run.due_s
            if overdue_s >= 0 and (run.program.may_start() or overdue_s > FREE_WITHIN_S):
                self._start(run, now_s)
        elif run.process.poll() is not None:
            self._record_end(run, run.process.returncode, now_s)

    def _start(self, run: _Run, now_s: float) -> None:
        run.started_s = now_s
        try:
            run.process = run.program.start()
        except (OSError, RuntimeError) as error:
            # There is no memory, process or thread left. This counts as an end of the program.
            self._schedule(run, f"could not be started ({error})", now_s)

    def _record_end(self, run: _Run, returncode: int, now_s: float) -> None:
        run.process = None
        program = run.program
        if not self._is_tolerant and is_fatal(returncode):
            failure = StackFailed(f"{program.name} {describe_end(returncode)}{program.log.ending()}")
            self._failure = self._failure or failure
            # Never restarted: `check` raises the failure.
            run.due_s = float("inf")
            return
        if now_s - run.started_s >= LONG_LIFE_S:
            run.num_ends = 0
        self._schedule(run, f"{describe_end(returncode)}{_reason(returncode, program.log)}", now_s)

    def _schedule(self, run: _Run, end: str, now_s: float) -> None:
        """Schedules the next start, and reports the end of the program."""
        run.num_ends += 1
        self._num_restarts += 1
        # The back-off counts from the start of the program, so the time that it lived is subtracted.
        lived_s = now_s - run.started_s
        delay_s = max(BACKOFF.first_s, BACKOFF.pause_s(run.num_ends) - lived_s)
        run.due_s = now_s + delay_s
        self._say(f"{run.program.name} {end}; it is started again in {delay_s:.0f} s (log: {run.program.log.path})")


def is_fatal(returncode: int) -> bool:
    """Returns whether a restart would fail, too: the program was not killed, and did not end with 0 or EX_TEMPFAIL."""
    return returncode > 0 and returncode != os.EX_TEMPFAIL


def describe_end(returncode: int) -> str:
    """Returns a description of the end of a program, for a message.

    >>> describe_end(-9), describe_end(78), describe_end(75)
    ('was killed (SIGKILL)', 'ended with 78 (settings or set-up)', 'ended with 75 (try again)')
    """
    if returncode < 0:
        return f"was killed ({_SIGNALS.get(-returncode, f'signal {-returncode}')})"
    meaning = {os.EX_CONFIG: " (settings or set-up)", os.EX_TEMPFAIL: " (try again)"}.get(returncode, "")
    return f"ended with {returncode}{meaning}"


def _reason(returncode: int, log: RotatingLog) -> str:
    """Returns the last line in the log of a program that ended with an error, to append to a message; else ""."""
    last = "".join(log.tail(1)) if returncode > 0 else ""
    return f": {last[:REASON_CHARS]}" if last else ""
