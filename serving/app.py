"""The replicas as a Ray Serve deployment, and the Ray that they run on. The only file here that knows Ray.

    run(config, stop) -> Ray (ours, or RAY_ADDRESS) -> Serve -> N replicas, each with its own Listener on host:port
    serve run serving.app:build -> the same deployment behind Serve's own proxy

Ray Serve starts the replicas, restarts those that die or are unhealthy, and stops them gracefully. It does not carry
the traffic: replicas read Kafka themselves and listen on the port themselves (`serving/listener.py` says why), so its
proxies are off, and its request metrics and autoscaling see only what comes through a handle or a proxy.
"""

import gc
import importlib
import logging
import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from serving.config import ReplicaConfig, ServingConfig
from wire.config import BusConfig, StoreConfig
from wire.logs import LogConfig

if TYPE_CHECKING:
    from ray.serve import Application
    from starlette.types import ASGIApp

APP = "lifelong"
KEY_VARIABLE = "LIFELONG_SIGNING_KEY"

HEALTH_PERIOD_S = 2.0
HEALTH_TIMEOUT_S = 5.0
STOP_MARGIN_S = 5.0
"""More than a replica's own limits, so that Serve kills none that would have ended by itself."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_COLOR_PREFIX": "0",
    "RAY_DEDUP_LOGS": "0",  # with it an event of a replica's log that was seen before is held back or changed
    "RAY_worker_niceness": "0",  # Ray's own 15 lets everything else on the machine go before an answer
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # whatever its name says: without it Ray listens on every interface
}
"""Set for a Ray that we start, unless they are set. Ray reads them when it is imported."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sections:
    serving: ServingConfig = field(default_factory=ServingConfig)
    bus: BusConfig = field(default_factory=BusConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    encoder: str = "minilm-l6"
    log_level: str = "info"
    log_json: bool = False


class AppReplica:
    """A replica inside Serve's actor. `listens`: it opens the HTTP port itself, and nobody calls it by handle."""

    def __init__(self, config: ReplicaConfig, *, listens: bool) -> None:
        from ray import serve

        from serving.connection import bounds_of
        from serving.http import make_app
        from serving.listener import Listener
        from serving.replica import Replica
        from wire.logs import configure

        configure(config.logs)
        if listens:
            _keep_internal_server_local()
        context = serve.get_replica_context()
        self._replica = Replica(config, f"{context.deployment}-{context.replica_id.unique_id}")
        self._hang_timeout_s = config.serving.batch_timeout_s
        api = self._replica.api()
        self._app = make_app(api)
        self._replica.start()
        self._listener: Listener | None = None
        if listens:
            self._listener = Listener(
                self._app,
                host=config.serving.http_host,
                port=config.serving.http_port,
                drain_timeout_s=config.serving.drain_timeout_s,
                bounds=bounds_of(config.serving),
                note=api.count,
            )
        gc.freeze()  # what the imports have made lives for ever: the collector need not look at it again

    def __serve_build_asgi_app__(self) -> "ASGIApp":
        return self._app

    def check_health(self) -> None:
        """Called by Serve. Raises Unhealthy."""
        self._replica.check()
        if self._listener is not None:
            self._listener.check(timeout_s=self._hang_timeout_s)

    def __del__(self) -> None:
        """Called by Serve when the replica is stopped: answers what was taken, and leaves."""
        if self._listener is not None:
            self._listener.close()
        self._replica.close()


def application(config: ReplicaConfig, *, listens: bool) -> "Application":
    """The deployment with its options."""
    from ray import serve

    serving = config.serving
    deployment: serve.Deployment = serve.deployment(  # type: ignore[assignment]  # its stub forgets this form
        serve.ingress()(AppReplica),
        name="replica",
        num_replicas=serving.replicas,
        max_ongoing_requests=serving.max_queue_items,
        max_queued_requests=serving.max_queue_items,
        health_check_period_s=HEALTH_PERIOD_S,
        health_check_timeout_s=HEALTH_TIMEOUT_S,
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=3 * serving.drain_timeout_s + STOP_MARGIN_S,
        ray_actor_options={"num_cpus": 1},
    )
    return deployment.bind(config, listens=listens)


def build(args: Mapping[str, Any]) -> "Application":
    """For `serve run serving.app:build store.url=... bus.bootstrap_servers=...`, or the `args` of a Serve config file.

    Names are those of the settings, dotted or nested; the signing key comes from LIFELONG_SIGNING_KEY. HTTP is Serve's
    own proxy then. Raises ValueError, naming what is wrong or missing.
    """
    from pydantic import TypeAdapter

    sections = TypeAdapter(_Sections).validate_python(_nested(args))
    key = os.environ.get(KEY_VARIABLE, "")
    config = ReplicaConfig(
        encoder=sections.encoder,
        serving=sections.serving,
        bus=sections.bus,
        store=sections.store,
        signing_key=key.encode(),
        logs=LogConfig(sections.log_level, sections.log_json, secrets=(key,)),
    )
    _require_addresses(config)
    return application(config, listens=False)


def run(config: ReplicaConfig, stop: threading.Event) -> None:
    """Serves until `stop` is set, then drains. To be called from the main thread.

    Raises PortTaken, and RuntimeError where the replicas do not start; the message has their reason.
    """
    _require_addresses(config)
    from serving.listener import check_port

    check_port(config.serving.http_host, config.serving.http_port)
    with running_ray(config):
        _serve(config, stop)


def _serve(config: ReplicaConfig, stop: threading.Event) -> None:
    from ray import serve
    from ray.serve.schema import LoggingConfig

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(proxy_location="Disabled", logging_config=LoggingConfig(log_level="WARNING"))
    try:
        serve.run(application(config, listens=True), name=APP, route_prefix=None)
        stop.wait()
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]


@contextmanager
def running_ray(config: ReplicaConfig) -> Iterator[None]:
    """Ray, at RAY_ADDRESS where that is set, else our own, small and only for this machine. Ends ours with the block.

    Ray replaces the handler of SIGTERM by one that kills without draining; the one before is put back.
    """
    if not os.environ.get("RAY_ADDRESS"):
        own = {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
        if config.logs.as_json:
            own["RAY_DISABLE_WORKER_LOG_PREFIX"] = "1"  # a line with the name of the replica before it is no JSON
        for name, value in {**ENVIRONMENT, **own}.items():
            os.environ.setdefault(name, value)
    import ray

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    folder = tempfile.mkdtemp(prefix="lifelong-ray-")  # short: sockets lie in it, and their paths have 107 bytes
    try:
        ray.init(logging_level=logging.ERROR, **_options(config.serving, folder))
        for number, handler in handlers.items():
            signal.signal(number, handler)
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _options(config: ServingConfig, folder: str) -> dict[str, Any]:
    """Of `ray.init`: nothing for a Ray that runs already."""
    if os.environ.get("RAY_ADDRESS"):
        return {}
    return {
        "address": "local",
        "num_cpus": config.replicas,  # what Serve counts with, not what the replicas may use
        "include_dashboard": False,
        "object_store_memory": config.object_store_mb << 20,
        "_temp_dir": folder,
    }


def _require_addresses(config: ReplicaConfig) -> None:
    """Raises ValueError, naming what is missing."""
    required = {
        "bus.bootstrap_servers": config.bus.bootstrap_servers,
        "store.url": config.store.url,
        KEY_VARIABLE: config.signing_key,
    }
    missing = [name for name, value in required.items() if not value]
    if missing:
        raise ValueError(f"missing: {', '.join(missing)}; give the addresses as args and the key in the environment")


def _nested(args: Mapping[str, Any]) -> dict[str, Any]:
    """`{"store.url": "x"}` as `{"store": {"url": "x"}}`."""
    nested: dict[str, Any] = {}
    for name, value in args.items():
        *sections, leaf = name.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[leaf] = value
    return nested


def _keep_internal_server_local() -> None:
    """Every replica of Serve listens for calls by handle on all interfaces, and unpickles what comes, unauthenticated.

    There is no option for the address, so we give another one where it is bound. Nobody calls a replica that listens.
    """
    replica: Any = importlib.import_module("ray.serve._private.replica")
    bind = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, address: bind(server, address.replace("[::]", "127.0.0.1"))
