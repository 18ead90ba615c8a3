"""The Ray that the replicas run on: our own, small and only for this machine, or the one at RAY_ADDRESS.

    running_ray: a folder, locked while we live -> ray.init -> ... -> ray.shutdown, the folder removed
    wait_while_it_runs: until we are told to stop, or Ray or the application has gone for good

Ray restarts what dies on it, but nothing restarts Ray. So whoever started us is told (RayLost) and may start us again.
"""

import atexit
import fcntl
import logging
import os
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from serving.config import ReplicaConfig

FOLDER_PREFIX = "lifelong-ray-"
"""Short: sockets lie in the folder, and their paths have 107 bytes."""

LOCK = "owner.lock"

LOOK_S = 1.0
"""How often Serve is asked what runs on it."""

ENDED_LOOK_S = 0.2
"""How often we look whether a process of Ray has ended: that asks nobody."""

SILENCE_S = 30.0
"""A Serve that has not said for so long what runs on it is gone; one whose controller died is back in half of that."""

START_S = 600.0
"""With no replica that runs for so long, all begins anew: one that hangs while it starts is one that Serve waits for
for ever. A cluster may have to boot a machine first, and load an image."""

VITAL = ("gcs_server", "raylet")
"""Processes of Ray without which it does not go on."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_COLOR_PREFIX": "0",
    "RAY_DEDUP_LOGS": "0",  # with it an event of a replica's log that was seen before is held back or changed
    "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",  # what hangs does not drain, and takes connections meanwhile
    "RAY_worker_niceness": "0",  # Ray's own 15 lets everything else on the machine go before an answer
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # whatever its name says: without it Ray listens on every interface
}
"""Set for a Ray that we start, unless they are set. Ray reads them when it is imported."""

log = structlog.get_logger("ray")


class RayLost(RuntimeError):
    """Ray, or our application on it, is not there, and does not come back by itself."""


class ServeState(NamedTuple):
    """What Serve says of our application."""

    is_there: bool
    has_replica: bool
    """Whether a replica runs: not one that only starts."""


def is_shared() -> bool:
    """Whether the Ray is not ours."""
    return bool(os.environ.get("RAY_ADDRESS"))


@contextmanager
def running_ray(config: ReplicaConfig) -> Iterator[None]:
    """Ray, at RAY_ADDRESS where that is set, else our own, which ends with the block.

    Ray replaces the handler of SIGTERM by one that kills without draining; the one before is put back. Raises RayLost
    where none answers.
    """
    if not is_shared():
        own = {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
        if config.logs.as_json:
            own["RAY_DISABLE_WORKER_LOG_PREFIX"] = "1"  # a line with the name of the replica before it is no JSON
        for name, value in {**ENVIRONMENT, **own}.items():
            os.environ.setdefault(name, value)
    import ray

    end = ray.shutdown
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with own_folder(Path(tempfile.gettempdir())) as folder:
        try:
            try:
                ray.init(logging_level=logging.ERROR, **_options(config, folder))
            except ConnectionError as error:
                raise RayLost(f"no Ray answers at {os.environ.get('RAY_ADDRESS', 'this machine')}: {error}") from error
            for number, handler in handlers.items():
                signal.signal(number, handler)
            yield
        except RayLost:
            if not is_shared():
                end = _abandon
            raise
        finally:
            end()


def wait_while_it_runs(
    stop: threading.Event,
    *,
    look: Callable[[], ServeState | None],
    ended: Callable[[], Sequence[str]],
    silence_s: float = SILENCE_S,
    start_s: float = START_S,
) -> None:
    """Returns when `stop` is set. Raises RayLost.

    `look` says how our application is (None: nobody answered), and may take for ever; `ended` names the processes of
    Ray that have.

    consumes: `look`, `ended`
    produces: nothing
    waits for: `stop`
    unblocked by: `stop`; within ENDED_LOOK_S by what has ended; after `silence_s` without an answer, after `start_s`
                  without a replica
    """
    with closing(_Watch(look)) as watch:
        while not stop.wait(ENDED_LOOK_S):
            _check_processes(ended)
            watch.check(silence_s, start_s)


def started(start: Callable[[], object], *, ended: Callable[[], Sequence[str]], within_s: float = START_S) -> None:
    """Returns when `start` has, raises what it raises; RayLost where it may never return.

    That is where a process of Ray ends first, and after `within_s`. It runs in a thread that is left behind then.
    """
    done: Future[object] = Future()
    deadline_s = time.monotonic() + within_s

    def run() -> None:
        try:
            done.set_result(start())
        except BaseException as error:  # noqa: BLE001 - it is raised where we are waited for
            done.set_exception(error)

    threading.Thread(target=run, name="ray-start", daemon=True).start()
    while not wait([done], ENDED_LOOK_S).done:
        _check_processes(ended)
        if time.monotonic() > deadline_s:
            raise RayLost(f"the replicas have not started in {within_s:.0f} s: start again")
    done.result()


def seen(app: str) -> ServeState | None:
    """What Serve says of the application; None where it says nothing."""
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    try:
        found = serve.status().applications.get(app)
    except (RayError, RayServeException) as error:
        log.warning("serve_silent", error=str(error))
        return None
    if found is None:
        return ServeState(is_there=False, has_replica=False)
    states = {state for each in found.deployments.values() for state, number in each.replica_states.items() if number}
    return ServeState(is_there=True, has_replica="RUNNING" in states)


def ended_processes() -> list[str]:
    """The processes of our Ray that have ended by themselves, as far as it cannot do without them."""
    from ray._private import worker

    node: Any = worker._global_node
    return [name for name, _ in node.dead_processes() if name in VITAL] if node is not None else []


@contextmanager
def own_folder(parent: Path) -> Iterator[Path]:
    """A folder in `parent` that is removed at the end; those of processes that were killed are removed at once.

    A file in the folder is locked while its owner lives: the kernel lets go of the lock, however he ends.
    """
    for other in parent.glob(f"{FOLDER_PREFIX}*"):
        _remove_abandoned(other)
    folder, lock = _made(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


class _Watch:
    """Asks again and again how our application is, in a thread of its own: an answer may never come."""

    def __init__(self, look: Callable[[], ServeState | None]) -> None:
        self._look = look
        self._is_there = True
        self._heard_s = time.monotonic()
        self._ran_s = time.monotonic()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ray-watch", daemon=True)
        self._thread.start()

    def check(self, silence_s: float, start_s: float) -> None:
        """Raises RayLost."""
        if not self._is_there:
            raise RayLost("our application was removed from Ray Serve: start again")
        if time.monotonic() - self._heard_s > silence_s:
            raise RayLost(f"Ray Serve has not answered for {silence_s:.0f} s: start again")
        if time.monotonic() - self._ran_s > start_s:
            raise RayLost(f"no replica has run for {start_s:.0f} s: start again")

    def close(self) -> None:
        """Asks no more; an answer that does not come is waited for no longer than LOOK_S."""
        self._closing.set()
        self._thread.join(LOOK_S)

    def _run(self) -> None:
        """Asks until closed.

        consumes: what Serve says
        produces: whether the application was there, when that was heard, and when a replica ran last
        waits for: an answer; then LOOK_S
        unblocked by: the answer, if it comes; close
        """
        while not self._closing.wait(LOOK_S):
            answer = self._look()
            if answer is None:
                continue
            self._is_there = answer.is_there
            self._heard_s = time.monotonic()
            if answer.has_replica:
                self._ran_s = self._heard_s


def _check_processes(ended: Callable[[], Sequence[str]]) -> None:
    """Raises RayLost."""
    if gone := ended():
        raise RayLost(f"{' and '.join(gone)} of Ray ended: start again")


def _made(parent: Path) -> tuple[Path, int]:
    """A new folder, and its lock. Before it is locked somebody may take it for abandoned: then another one."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=parent))
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)


def _remove_abandoned(folder: Path) -> None:
    """Removes the folder unless its owner lives, or it has none that we know of."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _abandon() -> None:
    """Ends what is left of our Ray by force. To take leave of it in order lasts seconds where half of it is gone.

    The process must end now, and does so before the interpreter takes down Ray's library, which would crash.
    """
    from ray._private import worker

    node: Any = worker._global_node
    if node is not None:
        node.kill_all_processes(check_alive=False, allow_graceful=False)
    atexit.register(os._exit, os.EX_TEMPFAIL)  # runs before those that were registered earlier


def _options(config: ReplicaConfig, folder: Path) -> dict[str, Any]:
    """Of `ray.init`: nothing for a Ray that runs already."""
    if is_shared():
        return {}
    return {
        "address": "local",
        "num_cpus": config.serving.replicas + 1,  # as many processes start at once: the replicas', Serve's controller's
        "include_dashboard": False,
        "object_store_memory": config.serving.object_store_mb << 20,
        "_temp_dir": str(folder),
    }
