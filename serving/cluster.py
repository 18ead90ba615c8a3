"""The Ray that the replicas run on: our own, small and only for this machine, or the one at RAY_ADDRESS.

running_ray: a locked state folder (`serving/ray_folder.py`) -> ray.init -> ... -> ray.shutdown, the folder removed
serve_state, ended_processes: asked again and again by `serving/serve_watch.py`

Rejected: a placement group for the replicas (Serve then neither bounds them by node nor adds any by lag).
"""

import atexit
import logging
import os
import secrets
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from serving.config import ServingConfig
from serving.ray_folder import state_folder
from serving.replica_config import ReplicaConfig
from serving.serve_watch import RayLost, ServeState

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
    states = set[str]()
    for deployment in application.deployments.values():
        states.update(state for state, number in deployment.replica_states.items() if number)
    return ServeState(is_there=True, has_replica="RUNNING" in states)


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
