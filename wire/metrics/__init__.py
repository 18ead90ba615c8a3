"""What a process tells Prometheus: its last report, under names and labels that are fixed.

    report --samples_of--> MetricValue(name, value, labels) --exporter--> GET /metrics
    reports of all replicas --exporter of the rollout controller--> GET /targets

catalogue   every metric: its name, kind, labels, and what it means
samples     a report becomes samples; nothing is counted for metrics alone
exporter    the listener, in a thread of its own

Only this package imports Prometheus's client.
"""

from wire.metrics.exporter import address, latest, note_latency, served, take

__all__ = ["address", "latest", "note_latency", "served", "take"]
