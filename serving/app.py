"""The replicas as a Ray Serve deployment.

    run(config, stop) -> Ray (ours, or RAY_ADDRESS) -> Serve -> N replicas, each with its own Listener on host:port
    serve run serving.app:build -> the same deployment behind Serve's own proxy
    metrics.latest() -> RayMetrics.update -> ray.serve.metrics -> Ray's agent of the node

Ray Serve starts the replicas, restarts replicas that die or are unhealthy, and stops replicas gracefully. The traffic
does not go through Serve: replicas read Kafka and listen on the port themselves. So Serve's own request metrics and its
autoscaling see only requests through a handle or a proxy. On a cluster, each replica also copies its metrics to Serve's
metrics; Ray adds the labels deployment, replica and application, and the prefix `ray_`. A Ray that we start ourselves
has no metrics agent.
"""

import gc
import importlib
import logging
import os
import threading
from collections.abc import Mapping
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from serving.cluster import (
    RayLost,
    app_name,
    await_start,
    ended_processes,
    is_shared,
    number_of_replicas,
    running_ray,
    serve_state,
    wait_while_running,
)
from serving.replica_config import ReplicaConfig, ReplicaSettings
from wire import metrics
from wire.config import TrustConfig, flat, nested
from wire.keyring import read_ring
from wire.metrics import TASK, Metric, MetricValue
from wire.sections import constants, refused_constant, require
from wire.tasks import DEFAULT

if TYPE_CHECKING:
    from ray.serve import Application
    from starlette.types import ASGIApp


KEY_VARIABLE = "LIFELONG_SIGNING_KEY"
TRUST = "learner.trust."

ADDRESSES = {
    "bus.bootstrap_servers": "LIFELONG_BUS__BOOTSTRAP_SERVERS",
    "bus.sasl_password": "LIFELONG_BUS__SASL_PASSWORD",
    "store.url": "LIFELONG_STORE__URL",
}
"""Settings that `build` reads from environment variables if the args do not have them, because passwords do not belong
in a file."""

HEALTH_PERIOD_S = 2.0
HEALTH_TIMEOUT_S = 3.0
"""Interval and time-out of Serve's health checks. A replica that fails three checks in a row is killed and replaced:
15 s after the replica hung, or 15 s after its model hung (`serving.batch_timeout_s`)."""

FIRST_WEIGHTS_S = 10.0
"""Longest time in seconds that a replica waits for its first weights before it listens.

Once it listens, the kernel gives it connections that another replica of the machine could answer. If no weights come
within this time, it listens without weights and answers 503.
"""

YIELD_TO_OTHERS_S = 60.0
"""Longest time in seconds that a replica without weights does not listen, so that another replica of the machine gets
the connections."""

STOP_MARGIN_S = 5.0
"""Added to a replica's own time limits, so that Serve does not kill a replica that is about to end."""


class AppReplica:
    """A replica inside Serve's actor. If `listens`, it opens the HTTP port itself; else Serve's proxy calls it."""

    def __init__(self, config: ReplicaConfig, *, listens: bool) -> None:
        import ray
        from ray import serve

        from serving.endpoints import OpenEndpoints, enabled_endpoints
        from serving.http.listener import yield_to_others
        from serving.replica import Replica
        from wire import metrics, traces
        from wire.logs import configure

        # A replica that fails to start is deleted, too: it closes what was opened.
        self._opened = ExitStack()
        configure(config.logs)
        self._ray_metrics = None if listens else RayMetrics()
        self._opened.enter_context(metrics.serve(config.metrics))
        self._opened.enter_context(traces.export(config.traces, "replica"))
        _bind_internal_server("127.0.0.1" if listens else ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
        context = serve.get_replica_context()
        self._replica = Replica(config, f"{context.deployment}-{context.replica_id.unique_id}")
        self._listens = listens
        self._hang_timeout_s = config.serving.batch_timeout_s
        self._replica.start()
        self._opened.callback(self._replica.close)
        if listens:
            serving = config.serving
            self._replica.await_weights(FIRST_WEIGHTS_S)
            yield_to_others(serving.http_host, serving.http_port, self._replica.has_weights, YIELD_TO_OTHERS_S)
        # If this process does not listen, Serve's proxy carries HTTP.
        endpoints = enabled_endpoints(config.serving, but=() if listens else ("http",))
        self._endpoints = OpenEndpoints(self._replica, config.serving, endpoints)
        self._opened.callback(self._endpoints.close)
        # Imported objects live for ever, so the garbage collector need not scan them.
        gc.freeze()

    def __serve_build_asgi_app__(self) -> "ASGIApp":
        from serving.http.app import make_app

        return make_app(self._replica.api(listens=self._listens))

    def check_health(self) -> None:
        """Serve calls it periodically. Raises Unhealthy."""
        self._replica.check()
        self._endpoints.check(timeout_s=self._hang_timeout_s)
        if self._ray_metrics is not None:
            self._ray_metrics.update()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Serve calls it if autoscaling is on. Returns the measurements that `LagPolicy` needs."""
        return self._replica.load()

    def __del__(self) -> None:
        """Serve calls it when it stops the replica. Answers the accepted events, and ends the threads."""
        self._opened.close()


def application(config: ReplicaConfig, *, listens: bool) -> "Application":
    """Returns the Serve application: the deployment of the replicas, with its options."""
    from ray import serve

    serving = config.serving
    deployment: serve.Deployment = serve.deployment(  # type: ignore[assignment]  # its stub forgets this form
        serve.ingress()(AppReplica),
        name="replica",
        **number_of_replicas(serving),
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
    """Builds the application for `serve run serving.app:build store.url=... bus.bootstrap_servers=...`.

    The `args` may also come from a Serve config file. They are named like the settings, dotted or nested. The signing
    keys come from LIFELONG_SIGNING_KEY, or from the file that LIFELONG_SIGNING_KEY_FILE names. Addresses may come from
    the environment, too (ADDRESSES). Of the learner's settings, only `learner.trust` is read. Serve's proxy carries
    HTTP. Raises ValueError, which names the mistake.
    """
    from_environment = {name: os.environ[variable] for name, variable in ADDRESSES.items() if variable in os.environ}
    values = from_environment | flat(args)
    fixed = constants({**dict(ReplicaSettings()), TRUST.strip("."): TrustConfig()})
    require(*((name not in values, refused_constant(name, value)) for name, value in fixed.items()))
    trust = {name.removeprefix(TRUST): value for name, value in values.items() if name.startswith(TRUST)}
    values = {name: value for name, value in values.items() if not name.startswith(TRUST)}
    settings = ReplicaSettings(**nested(values))
    ring = read_ring(os.environ.get(KEY_VARIABLE, ""), file=os.environ.get(f"{KEY_VARIABLE}_FILE", ""))
    config = ReplicaConfig.of(settings, ring=ring, trust=TypeAdapter(TrustConfig).validate_python(trust))
    _require_addresses(config)
    return application(config, listens=False)


def run(config: ReplicaConfig, stop: threading.Event) -> None:
    """Serves until `stop` is set, then drains. Must be called from the main thread.

    Raises PortTaken, BadKeys, BadCertificate, TracesUnavailable, UnsafePolicy or RayLost. Raises RuntimeError if the
    replicas do not start; its message has the reason.
    """
    from serving.endpoints import enabled_endpoints
    from wire import traces

    _require_addresses(config)
    traces.require(config.traces)
    _check_policy(config)
    for endpoint in enabled_endpoints(config.serving):
        endpoint.check(config.serving, stop)
    with running_ray(config):
        _serve(config, stop)


def _serve(config: ReplicaConfig, stop: threading.Event) -> None:
    from ray import serve
    from ray.serve.schema import LoggingConfig

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    name = app_name(config.bus.prefix)

    def start() -> None:
        serve.start(proxy_location="Disabled", logging_config=LoggingConfig(log_level="WARNING"))
        try:
            serve.run(application(config, listens=True), name=name, route_prefix=None)
        except RuntimeError:
            # Serve also reports a failed deployment if one replica was killed while another one starts. Serve starts
            # both again anyway. If this function raised, Ray would be restarted, and replicas that answer would end.
            state = serve_state(name)
            if state is None or not state.has_lost_replica:
                raise

    with ExitStack() as cleanup:
        cleanup.callback(_remove, name)
        try:
            await_start(start, stop, ended=ended_processes)
            wait_while_running(stop, serve_state=partial(serve_state, name), ended=ended_processes)
        except RayLost:
            # Without Ray there is nothing to remove.
            cleanup.pop_all()
            raise


def _remove(name: str) -> None:
    """Ends the application. Ends Serve, too, if the Ray is ours: a shared Ray may serve other applications."""
    from ray import serve

    if is_shared():
        serve.delete(name)
    else:
        serve.shutdown()  # type: ignore[no-untyped-call]


def _check_policy(config: ReplicaConfig) -> None:
    """Checks the store's eviction policy. Raises UnsafePolicy or StoreRefused.

    If the store is unreachable, it raises nothing, because each replica checks the policy again.
    """
    from wire.errors import StoreRefused, StoreUnavailable
    from wire.store import Store

    with closing(Store(config.store, config.ring)) as store:
        try:
            store.check_policy()
        except StoreRefused:
            raise
        except StoreUnavailable:
            pass


def _require_addresses(config: ReplicaConfig) -> None:
    """Raises ValueError if an address or the signing key is missing. The message names the missing settings."""
    required = {
        "bus.bootstrap_servers": config.bus.bootstrap_servers,
        "store.url": config.store.url,
        KEY_VARIABLE: config.ring.keys,
    }
    missing = [name for name, value in required.items() if not value]
    if missing:
        raise ValueError(f"missing: {', '.join(missing)}; give the addresses as args and the key in the environment")


def _bind_internal_server(address: str) -> None:
    """Makes the internal gRPC server of Serve's replica listen only on `address`.

    By default this server, which serves calls by handle, listens on all interfaces and unpickles messages without
    authentication. Serve has no option for the address, so the function that binds the server is replaced.
    """
    replica: Any = importlib.import_module("ray.serve._private.replica")
    bind = replica.add_port_to_grpc_server
    host = f"[{address}]" if ":" in address else address
    replica.add_port_to_grpc_server = lambda server, target: bind(server, target.replace("[::]", host))


class RayMetrics:
    """Copies this process's metrics to Ray's. One thread calls `update`, from time to time."""

    def __init__(self) -> None:
        self._ray_metrics: dict[Metric, Any] = {}
        self._sent: dict[tuple[Metric, tuple[str, ...], str], float] = {}

    def update(self) -> None:
        """Sends the latest values to Ray; for a counter, the increase since the last update."""
        for metric, samples in metrics.latest().items():
            for sample in samples:
                self._send(metric, sample)

    def _send(self, metric: Metric, sample: MetricValue) -> None:
        tags = sample.tags(metric.labels)
        if metric.kind == "gauge":
            self._ray_metric(metric).set(sample.value, tags)
            return
        key = (metric, sample.labels, sample.task)
        increase = sample.value - self._sent.get(key, 0.0)
        # Ray refuses an increase of 0.
        if increase > 0:
            self._ray_metric(metric).inc(increase, tags)
            self._sent[key] = sample.value

    def _ray_metric(self, metric: Metric) -> Any:
        from ray.serve.metrics import Counter, Gauge

        if metric not in self._ray_metrics:
            # `Any`: Ray's stubs allow one label only.
            kind: Any = Counter if metric.kind == "counter" else Gauge
            self._ray_metrics[metric] = kind(metric.name, metric.help, (*metric.labels, TASK))
            self._ray_metrics[metric].set_default_tags({TASK: DEFAULT})
        return self._ray_metrics[metric]
