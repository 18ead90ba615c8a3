"""Mirrors the metrics of a replica as Ray Serve's, for who looks at a Ray cluster with Ray's own dashboards.

    metrics.latest() -> RayMetrics.update -> ray.serve.metrics -> Ray's agent of the node

Ray adds deployment, replica and application to the labels, and `ray_` to the names. A Ray that we start has no agent,
so only replicas on a cluster do this.
"""

from typing import Any

from wire import metrics
from wire.metrics import TASK, Metric, MetricValue
from wire.tasks import DEFAULT


class RayMetrics:
    """The metrics as Ray knows them. One thread calls `update`, now and then."""

    def __init__(self) -> None:
        self._made: dict[Metric, Any] = {}
        self._told: dict[tuple[Metric, tuple[str, ...], str], float] = {}

    def update(self) -> None:
        """Tells Ray the newest values; of a counter, by how much it has grown."""
        for metric, samples in metrics.latest().items():
            for sample in samples:
                self._tell(metric, sample)

    def _tell(self, metric: Metric, sample: MetricValue) -> None:
        tags = sample.tags(metric.labels)
        if metric.kind == "gauge":
            self._of(metric).set(sample.value, tags)
            return
        key = (metric, sample.labels, sample.task)
        grown = sample.value - self._told.get(key, 0.0)
        if grown > 0:  # Ray refuses to add nothing
            self._of(metric).inc(grown, tags)
            self._told[key] = sample.value

    def _of(self, metric: Metric) -> Any:
        from ray.serve.metrics import Counter, Gauge

        if metric not in self._made:
            kind: Any = Counter if metric.kind == "counter" else Gauge  # their stubs know of one label only
            self._made[metric] = kind(metric.name, metric.help, (*metric.labels, TASK))
            self._made[metric].set_default_tags({TASK: DEFAULT})
        return self._made[metric]
