"""The Ray that the replicas run on: our own, small and only for this machine, or the one at RAY_ADDRESS.

    running_ray: abandoned folders are removed -> a locked state folder -> ray.init -> ... -> ray.shutdown, all removed
    ended_processes  --every PROCESS_POLL_S-------------> wait_while_running, await_start --> RayLost
    serve_state      --every POLL_S--> ServeWatch.check --^

Ray restarts what dies on it, but nothing restarts Ray. RayLost tells whoever started us to start us again. What
watches does not import Ray: it asks both questions through callables.
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

from serving.config import ServingConfig
from serving.replica_config import ReplicaConfig
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
    has_lost_replica: bool = False
    """Whether a replica has started and ended since, or does not answer Serve's health checks."""


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


def await_start(
    start: Callable[[], object],
    stop: threading.Event,
    *,
    ended: Callable[[], Sequence[str]],
    within_s: float = START_S,
) -> None:
    """Calls `start`, returns when it has returned or `stop` is set, and raises what it raises.

    Raises RayLost if `start` may never return: when a process of Ray ends first, and after `within_s` seconds.
    `start` runs in a thread, which is left behind then, and when `stop` is set.
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
        if stop.is_set():
            return
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


VITAL = ("gcs_server", "raylet")
"""Processes of Ray without which it does not go on."""

LOOK_BACK_S = 11.0
"""Time over which Serve takes the mean of lag and load. It must be above its own interval of 10 s."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_COLOR_PREFIX": "0",
    "RAY_DEDUP_LOGS": "0",  # deduplication would hold back or change a replica's log line that was seen before
    "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",  # a hanging replica does not drain, and still takes connections
    "RAY_worker_niceness": "0",  # Ray's own 15 lets everything else on the machine run before an answer
    "RAY_ROTATION_MAX_BYTES": str(8 << 20),  # without it what a worker writes into its own log is never rotated
    "RAY_ROTATION_BACKUP_COUNT": "1",
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",  # by default a lag is seen after 10 s
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # despite its name: unless it is 0, Ray listens on every interface
}
"""Defaults for the environment of a Ray that we start. Ray reads them when it is imported."""

log = structlog.get_logger("ray")


def is_shared() -> bool:
    """Whether the Ray at RAY_ADDRESS is used, which others may share."""
    return bool(os.environ.get("RAY_ADDRESS"))


@contextmanager
def running_ray(config: ReplicaConfig) -> Iterator[None]:
    """Connects to the Ray at RAY_ADDRESS where that is set, else starts our own, which ends with the block.

    Ray replaces the handler of SIGTERM by one that kills without draining, so the handler before it is put back. Raises
    RayLost where no Ray answers.
    """
    if not is_shared():
        own = {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
        if config.logs.as_json:
            own["RAY_DISABLE_WORKER_LOG_PREFIX"] = "1"  # a line that starts with the replica's name is not JSON
        for name, value in {**ENVIRONMENT, **own}.items():
            os.environ.setdefault(name, value)
    import ray

    if not is_shared():
        _leave_out_unused_processes()
    end = ray.shutdown
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with state_folder(Path(tempfile.gettempdir())) as folder:
        try:
            try:
                ray.init(logging_level=logging.ERROR, **_init_options(config, folder))
            except ConnectionError as error:
                raise RayLost(f"no Ray answers at {os.environ.get('RAY_ADDRESS', 'this machine')}: {error}") from error
            for number, handler in handlers.items():
                signal.signal(number, handler)
            yield
        except RayLost:
            if not is_shared():
                end = _kill
            raise
        finally:
            end()


def app_name(prefix: str) -> str:
    """Returns the name of the application whose topics have this prefix: those of two tenants may share a Ray.

    >>> app_name("shop."), app_name("")
    ('lifelong-shop.', 'lifelong')
    """
    return f"lifelong-{prefix}" if prefix else "lifelong"


def serve_state(app: str) -> ServeState | None:
    """Returns what Serve says of the application; None where it does not answer."""
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    try:
        application = serve.status().applications.get(app)
    except (RayError, RayServeException) as error:
        log.warning("serve_silent", error=str(error))
        return None
    if application is None:
        return ServeState(is_there=False, has_replica=False)
    deployments = application.deployments.values()
    states = {state for each in deployments for state, number in each.replica_states.items() if number}
    is_lost = any(each.status_trigger == "HEALTH_CHECK_FAILED" for each in deployments)
    return ServeState(is_there=True, has_replica="RUNNING" in states, has_lost_replica=is_lost)


def number_of_replicas(config: ServingConfig) -> dict[str, Any]:
    """Returns the options of a deployment that say how many replicas there are, and on how many nodes."""
    placed = {"max_replicas_per_node": config.max_replicas_per_node} if config.max_replicas_per_node else {}
    scaling = config.scaling
    if not scaling.max_replicas:
        return {**placed, "num_replicas": config.replicas}
    from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

    policy = AutoscalingPolicy(  # type: ignore[no-untyped-call]
        policy_function="serving.scaling:LagPolicy", policy_kwargs={"lag_per_replica": scaling.lag_per_replica}
    )
    bounds = AutoscalingConfig(
        min_replicas=config.replicas,
        max_replicas=scaling.max_replicas,
        upscale_delay_s=scaling.up_after_s,
        downscale_delay_s=scaling.down_after_s,
        look_back_period_s=LOOK_BACK_S,
        policy=policy,
    )
    return {**placed, "autoscaling_config": bounds}


def ended_processes() -> list[str]:
    """Names the vital processes of our Ray that have ended by themselves."""
    from ray._private import worker

    node: Any = worker._global_node
    return [name for name, _ in node.dead_processes() if name in VITAL] if node is not None else []


def _kill() -> None:
    """Kills what is left of our Ray. An orderly shutdown takes seconds where half of Ray is gone.

    The process must end now, and does so before the interpreter takes down Ray's library, which would crash.
    """
    from ray._private import worker

    node: Any = worker._global_node
    if node is not None:
        node.kill_all_processes(check_alive=False, allow_graceful=False)
    atexit.register(os._exit, os.EX_TEMPFAIL)  # runs before the handlers that were registered earlier


def _leave_out_unused_processes() -> None:
    """Makes a Ray that we start run without its autoscaler and its API server, which nothing here uses.

    Each is one more Python process that starts before the first replica can. Without them a `serve` that is started
    again answers after 7.7 s instead of 10.6 s, on two idle cores. There is no option: `include_dashboard=False` leaves
    out the pages of the API server, but not the process.
    """
    from ray._private.node import Node

    node: Any = Node
    node.start_monitor = lambda self: None
    node.start_api_server = lambda self, **_options: None


def _init_options(config: ReplicaConfig, folder: Path) -> dict[str, Any]:
    """Returns the options of `ray.init`: none for a Ray that runs already."""
    if is_shared():
        return {}
    return {
        "address": "local",
        "num_cpus": max(config.serving.replicas, config.serving.scaling.max_replicas)
        + 1,  # processes that start at once: the replicas and Serve's controller
        "include_dashboard": False,
        "object_store_memory": config.serving.object_store_mb << 20,
        "_temp_dir": str(folder),
    }


FOLDER_PREFIX = "lifelong-ray-"
"""The prefix is short, because sockets lie in the folder and a socket's path may have 107 bytes."""

LOCK = "owner.lock"


@contextmanager
def state_folder(parent: Path) -> Iterator[Path]:
    """Yields a folder in `parent` that is removed at the end; folders of killed processes are removed first.

    A file in the folder is locked while its owner lives. The kernel releases the lock however the owner ends.
    """
    for other in parent.glob(f"{FOLDER_PREFIX}*"):
        _remove_abandoned(other)
    folder, lock = _new_folder(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _new_folder(parent: Path) -> tuple[Path, int]:
    """Makes a folder and locks it. Another process may remove it before it is locked: then another one is made."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=parent))
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)


def _remove_abandoned(folder: Path) -> None:
    """Removes the folder unless its owner lives, or it has no lock file, so that no owner is known."""
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
