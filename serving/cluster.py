"""The Ray on which the replicas run: our own small one for this machine, or the cluster at RAY_ADDRESS.

    running_ray: abandoned folders are removed -> a locked state folder -> ray.init -> ... -> ray.shutdown, all removed
    ended_processes  --every PROCESS_POLL_S-------------> wait_while_running, await_start --> RayLost
    serve_state      --every POLL_S--> ServeWatch.check --^

Ray restarts actors that die, but nothing restarts Ray itself. RayLost tells our supervisor to start this process again.
The code that watches Ray does not import it: it calls the functions `ended` and `serve_state`.
"""

import atexit
import fcntl
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from serving import idle_agent
from serving.config import ServingConfig
from serving.replica_config import ReplicaConfig
from wire.threads import BackgroundThread

POLL_S = 1.0
"""Interval in seconds at which Serve is asked for the state of our application."""

PROCESS_POLL_S = 0.2
"""Interval in seconds at which Ray's processes are checked. This check is cheap: it asks no server."""

SILENCE_S = 30.0
"""Serve is considered gone if it has not answered for this many seconds. After its controller died, Serve answers again
within half of this time."""

START_S = 600.0
"""Longest time in seconds without a running replica before everything is restarted.

Serve itself would wait for ever for a replica that hangs while it starts. The time is long, because a cluster may first
have to boot a machine and load an image.
"""


class RayLost(RuntimeError):
    """Ray, or our application on it, is gone and does not come back without a restart."""


_RESTART = "start `lifelong serve` again"


class ServeState(NamedTuple):
    """The state of our application, as Serve reports it."""

    is_there: bool
    has_replica: bool
    """Whether a replica runs. A replica that is still starting does not count."""
    has_lost_replica: bool = False
    """Whether a replica ended after it had started, or does not answer Serve's health checks."""


def wait_while_running(
    stop: threading.Event,
    *,
    serve_state: Callable[[], ServeState | None],
    ended: Callable[[], Sequence[str]],
    silence_s: float = SILENCE_S,
    start_s: float = START_S,
) -> None:
    """Returns when `stop` is set. Raises RayLost.

    `serve_state` returns the state of our application, or None if Serve did not answer; it may block for ever. `ended`
    returns the names of Ray's processes that have ended.

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
    """Calls `start` in a thread. Returns when `start` has returned or `stop` is set. Raises the errors of `start`.

    Raises RayLost if a process of Ray ends first, or after `within_s` seconds, because `start` may then never return.
    If it raises RayLost, or `stop` is set, the thread is left running.
    """
    done: Future[object] = Future()
    deadline_s = time.monotonic() + within_s

    def run() -> None:
        try:
            done.set_result(start())
        except BaseException as error:  # noqa: BLE001  # `done.result()` raises it in the thread that waits
            done.set_exception(error)

    # A daemon thread does not keep the process alive if `start` never returns.
    threading.Thread(target=run, name="ray-start", daemon=True).start()
    while not wait([done], PROCESS_POLL_S).done:
        if stop.is_set():
            return
        _check_processes(ended)
        if time.monotonic() > deadline_s:
            raise RayLost(f"the replicas have not started in {within_s:.0f} s: {_RESTART}")
    done.result()


class ServeWatch:
    """Polls the state of our application in its own thread, because Serve may never answer."""

    def __init__(self, serve_state: Callable[[], ServeState | None]) -> None:
        self._serve_state = serve_state
        self._is_there = True
        self._answered_s = time.monotonic()
        self._replica_seen_s = time.monotonic()
        self._thread = BackgroundThread(self._run, name="ray-watch")
        self._thread.start()

    def check(self, silence_s: float, start_s: float) -> None:
        """Raises RayLost if our application was removed, if Serve has not answered for `silence_s` seconds, or if no
        replica has run for `start_s` seconds."""
        if not self._is_there:
            raise RayLost(f"our application was removed from Ray Serve: {_RESTART}")
        if time.monotonic() - self._answered_s > silence_s:
            raise RayLost(f"Ray Serve has not answered for {silence_s:.0f} s: {_RESTART}")
        if time.monotonic() - self._replica_seen_s > start_s:
            raise RayLost(f"no replica has run for {start_s:.0f} s: {_RESTART}")

    def close(self) -> None:
        """Stops polling. Waits at most POLL_S for a pending answer."""
        self._thread.close(POLL_S)

    def _run(self) -> None:
        """Polls until closed.

        consumes: the state of our application, from Serve
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
    """Raises RayLost if a vital process of Ray has ended."""
    if names := ended():
        raise RayLost(f"{' and '.join(names)} of Ray ended: {_RESTART}")


VITAL = ("gcs_server", "raylet")
"""Ray's processes without which it does not work."""

LOOK_BACK_S = 11.0
"""Time in seconds over which Serve averages lag and load. It must be above Serve's own interval of 10 s."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_COLOR_PREFIX": "0",
    "RAY_DEDUP_LOGS": "0",  # deduplication delays or changes a replica's repeated log lines
    "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",  # a hanging replica does not drain, but still accepts connections
    "RAY_worker_niceness": "0",  # with Ray's default of 15, every other process of the machine runs before an answer
    "RAY_ROTATION_MAX_BYTES": str(8 << 20),  # without a limit, a worker's own log is never rotated
    "RAY_ROTATION_BACKUP_COUNT": "1",
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",  # by default Serve notices a lag after 10 s
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # despite its name: if it is not 0, Ray listens on every interface
}
"""Defaults for the environment of a Ray that we start. Ray reads them when it is imported."""

log = structlog.get_logger("ray")


def is_shared() -> bool:
    """Whether the replicas run on the Ray at RAY_ADDRESS, which other applications may share."""
    return bool(os.environ.get("RAY_ADDRESS"))


@contextmanager
def running_ray(config: ReplicaConfig) -> Iterator[None]:
    """Connects to the Ray at RAY_ADDRESS if that is set, else starts our own, which ends with the block.

    Ray replaces the handler of SIGTERM by a handler that kills without draining, so the previous handler is restored.
    Raises RayLost if no Ray answers.
    """
    if not is_shared():
        own = {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
        if config.logs.as_json:
            # Ray's prefix, the replica's name, would make each JSON line invalid.
            own["RAY_DISABLE_WORKER_LOG_PREFIX"] = "1"
        for name, value in {**ENVIRONMENT, **own}.items():
            os.environ.setdefault(name, value)
    import ray

    if not is_shared():
        _disable_unused_processes()
    end = ray.shutdown
    # `ray.init` replaces these handlers.
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
    """Returns the name of the application whose topics have this prefix. So two tenants can share a Ray.

    >>> app_name("shop."), app_name("")
    ('lifelong-shop.', 'lifelong')
    """
    return f"lifelong-{prefix}" if prefix else "lifelong"


def serve_state(app: str) -> ServeState | None:
    """Returns the application's state; None if Serve does not answer."""
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
    states: set[str] = set()
    for deployment in deployments:
        states.update(state for state, number in deployment.replica_states.items() if number)
    is_lost = any(deployment.status_trigger == "HEALTH_CHECK_FAILED" for deployment in deployments)
    return ServeState(is_there=True, has_replica="RUNNING" in states, has_lost_replica=is_lost)


def number_of_replicas(config: ServingConfig) -> dict[str, Any]:
    """Returns the deployment's options for the number of replicas and their placement on nodes."""
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
    """Returns the names of the vital processes of our Ray that have ended unexpectedly."""
    from ray._private import worker

    node: Any = worker._global_node
    return [name for name, _ in node.dead_processes() if name in VITAL] if node is not None else []


def _kill() -> None:
    """Kills the remaining processes of our Ray: an orderly shutdown takes seconds if half of Ray is gone.

    Also makes this process exit without unloading Ray's library, which would crash.
    """
    from ray._private import worker

    node: Any = worker._global_node
    if node is not None:
        node.kill_all_processes(check_alive=False, allow_graceful=False)
    # Handlers run in reverse order, so this one runs before Ray's.
    atexit.register(os._exit, os.EX_TEMPFAIL)


def _disable_unused_processes() -> None:
    """Makes a Ray that we start run without its autoscaler, its API server and its two agents, which nothing here uses.

    Each is one more Python process that must start before the first replica. Without autoscaler and API server, a
    restarted `serve` answers after 7.7 s instead of 10.6 s, on two idle cores. Without the agents, `ray.init` takes
    6.8 s instead of 12.2 s, on two busy cores. Ray has no option for this: `include_dashboard=False` removes the API
    server's pages, but not its process, and a raylet ends if an agent does. So `serving.idle_agent` runs in place of
    the agents.
    """
    from ray._private import ray_constants, services
    from ray._private.node import Node

    node: Any = Node
    node.start_monitor = lambda self: None
    node.start_api_server = lambda self, **_options: None

    agents = (ray_constants.PROCESS_TYPE_DASHBOARD_AGENT, ray_constants.PROCESS_TYPE_RUNTIME_ENV_AGENT)
    commands: Any = services
    command_of = commands._build_python_executable_command_memory_profileable

    def idle_command(component: str, *args: Any, **options: Any) -> list[str]:
        """Returns the beginning of a process's command; Ray appends the path and the options of its own program."""
        if component in agents:
            return [sys.executable, "-IS", idle_agent.__file__]
        command: list[str] = command_of(component, *args, **options)
        return command

    commands._build_python_executable_command_memory_profileable = idle_command


def _init_options(config: ReplicaConfig, folder: Path) -> dict[str, Any]:
    """Returns the options of `ray.init`; none for a Ray that runs already."""
    if is_shared():
        return {}
    num_replicas = max(config.serving.replicas, config.serving.scaling.max_replicas)
    return {
        "address": "local",
        # One CPU for each process that starts at once: the replicas and Serve's controller.
        "num_cpus": num_replicas + 1,
        "include_dashboard": False,
        "object_store_memory": config.serving.object_store_mb << 20,
        "_temp_dir": str(folder),
    }


FOLDER_PREFIX = "lifelong-ray-"
"""The prefix is short, because the folder contains sockets, and a socket's path may have at most 107 bytes."""

LOCK = "owner.lock"


@contextmanager
def state_folder(parent: Path) -> Iterator[Path]:
    """Yields a new folder in `parent` and removes it at the end. Removes the folders of killed processes first.

    A file in the folder is locked while the folder's owner lives. The kernel releases the lock even if the owner is
    killed.
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
    """Makes a folder and locks it. Returns the folder and the lock's file descriptor."""
    # Another process may remove the folder before it is locked: then make another one.
    while True:
        folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=parent))
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)


def _remove_abandoned(folder: Path) -> None:
    """Removes the folder unless its owner lives. A folder without a lock file is kept, since its owner is unknown."""
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
