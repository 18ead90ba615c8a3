"""Notices that our Ray, or our application on Ray Serve, is gone for good, and raises RayLost.

    ended processes  --every PROCESS_POLL_S-------------> wait_while_running, await_start --> RayLost
    state of Serve   --every POLL_S--> ServeWatch.check --^

Ray restarts what dies on it, but nothing restarts Ray. RayLost tells whoever started us to start us again. Nothing here
imports Ray: both questions are asked through callables of `serving/cluster.py`.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import closing
from typing import NamedTuple

from wire.threads import BackgroundThread

POLL_S = 1.0
"""Interval at which Serve is asked what runs on it."""

PROCESS_POLL_S = 0.2
"""Interval at which Ray's processes are checked: that check asks no server."""

SILENCE_S = 30.0
"""A Serve that has not answered for this long is gone. One whose controller died is back in half of that time."""

START_S = 600.0
"""Longest time without a running replica before everything is started anew: Serve waits for ever for a replica that
hangs while it starts. A cluster may first have to boot a machine and load an image."""


class RayLost(RuntimeError):
    """Ray, or our application on it, is not there, and does not come back by itself."""


class ServeState(NamedTuple):
    """The state of our application, as Serve reports it."""

    is_there: bool
    has_replica: bool
    """Whether a replica runs. A replica that only starts does not count."""


def wait_while_running(
    stop: threading.Event,
    *,
    serve_state: Callable[[], ServeState | None],
    ended: Callable[[], Sequence[str]],
    silence_s: float = SILENCE_S,
    start_s: float = START_S,
) -> None:
    """Returns when `stop` is set. Raises RayLost.

    `serve_state` returns the state of our application (None: Serve did not answer), and may never return. `ended`
    names the processes of Ray that have ended.

    consumes: `serve_state`, `ended`
    produces: nothing
    waits for: `stop`
    unblocked by: `stop`; within PROCESS_POLL_S by a process that has ended; after `silence_s` without an answer, after
                  `start_s` without a replica
    """
    with closing(ServeWatch(serve_state)) as watch:
        while not stop.wait(PROCESS_POLL_S):
            _check_processes(ended)
            watch.check(silence_s, start_s)


def await_start(start: Callable[[], object], *, ended: Callable[[], Sequence[str]], within_s: float = START_S) -> None:
    """Calls `start`, returns when it has returned, and raises what it raises.

    Raises RayLost where `start` may never return: when a process of Ray ends first, and after `within_s` seconds.
    `start` runs in a thread, which is left behind then.
    """
    done: Future[object] = Future()
    deadline_s = time.monotonic() + within_s

    def run() -> None:
        try:
            done.set_result(start())
        except BaseException as error:  # noqa: BLE001  # `done.result()` raises it in the thread that waits
            done.set_exception(error)

    threading.Thread(target=run, name="ray-start", daemon=True).start()
    while not wait([done], PROCESS_POLL_S).done:
        _check_processes(ended)
        if time.monotonic() > deadline_s:
            raise RayLost(f"the replicas have not started in {within_s:.0f} s: start again")
    done.result()


class ServeWatch:
    """Polls the state of our application in a thread of its own, because an answer may never come."""

    def __init__(self, serve_state: Callable[[], ServeState | None]) -> None:
        self._serve_state = serve_state
        self._is_there = True
        self._answered_s = time.monotonic()
        self._replica_seen_s = time.monotonic()
        self._thread = BackgroundThread(self._run, name="ray-watch")
        self._thread.start()

    def check(self, silence_s: float, start_s: float) -> None:
        """Raises RayLost."""
        if not self._is_there:
            raise RayLost("our application was removed from Ray Serve: start again")
        if time.monotonic() - self._answered_s > silence_s:
            raise RayLost(f"Ray Serve has not answered for {silence_s:.0f} s: start again")
        if time.monotonic() - self._replica_seen_s > start_s:
            raise RayLost(f"no replica has run for {start_s:.0f} s: start again")

    def close(self) -> None:
        """Stops polling. An answer that is still due is waited for no longer than POLL_S."""
        self._thread.close(POLL_S)

    def _run(self) -> None:
        """Polls until closed.

        consumes: what Serve says
        produces: whether the application was there, when Serve last answered, and when a replica was last running
        waits for: an answer; then POLL_S
        unblocked by: the answer, if it comes; close
        """
        while not self._thread.closing.wait(POLL_S):
            state = self._serve_state()
            if state is None:
                continue
            self._is_there = state.is_there
            self._answered_s = time.monotonic()
            if state.has_replica:
                self._replica_seen_s = self._answered_s


def _check_processes(ended: Callable[[], Sequence[str]]) -> None:
    """Raises RayLost where a process of Ray has ended."""
    if names := ended():
        raise RayLost(f"{' and '.join(names)} of Ray ended: start again")
