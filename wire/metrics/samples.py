"""Turns a report into samples of metrics.

    ReplicaReport | LearnerReport | ControllerReport --samples_of--> MetricValue, MetricValue, ...

A count that has no metric is left out: `lifelong status` and the reports have it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from wire.records import TIERS, ControllerReport, LearnerReport, ReplicaReport
from wire.tasks import DEFAULT

AnyReport: TypeAlias = ReplicaReport | LearnerReport | ControllerReport

TASK = "task"
"""A label of every metric of a task besides the default one."""

LABEL_ENDS = (
    "learnt",
    "holdout",
    "over_capacity",
    "set_aside",
    "late",
    "duplicate",
    "orphan",
    "outdated",
    "corrected",
    "withdrawn",
)
"""What becomes of a label, besides being refused or quarantined. One that was learnt may be withdrawn later on."""

LOSSES = ("log_truncated", "read_again", "records_expired", "events_expired")
"""What a reader counts of a log that was cut, or whose records retention deleted too early (`wire.bus.losses`)."""

ROUND_ENDS = ("adopted", "dropped", "not_finite")


class MetricValue(NamedTuple):
    """A sample: the value of a metric. `labels` are the values of its labels, in their order."""

    name: str
    value: float
    labels: tuple[str, ...] = ()
    task: str = DEFAULT

    def tags(self, names: Sequence[str]) -> dict[str, str]:
        """Returns the labels by their names, with that of a task besides the default one."""
        tags = dict(zip(names, self.labels, strict=True))
        return {**tags, TASK: self.task} if self.task else tags


def samples_of(report: AnyReport) -> Iterator[MetricValue]:
    """Yields what a report says. Histograms are left to the exporter."""
    yield MetricValue("lifelong_report_time_seconds", 1e-3 * report.time_ms)
    for kind in LOSSES:
        yield MetricValue("lifelong_log_losses_total", report.counts.get(kind, 0), (kind,))
    match report:
        case ReplicaReport():
            yield from _of_replica(report)
        case LearnerReport():
            yield from _of_learner(report)
        case ControllerReport():
            yield from _of_controller(report)


def _of_replica(report: ReplicaReport) -> Iterator[MetricValue]:
    counts = report.counts
    for name, value in counts.items():
        arm, _, precision = name.removeprefix("answers_by_").rpartition("_")
        if name.startswith("answers_by_"):
            yield MetricValue("lifelong_answers_total", value, (arm, precision))
    yield MetricValue("lifelong_batches_total", counts.get("batches", 0))
    yield from _prefixed("lifelong_refusals_total", counts, "http_")
    yield MetricValue("lifelong_dead_letters_total", counts.get("dead_letters", 0))
    yield MetricValue("lifelong_queue_items", report.queue_items)
    yield MetricValue("lifelong_browning_out", counts.get("browning_out", 0))
    yield MetricValue("lifelong_plan_revision", report.revision)
    yield MetricValue("lifelong_stand_in", float(report.stand_in > 0))
    yield MetricValue("lifelong_swaps_total", report.swaps)
    yield MetricValue("lifelong_swap_stall_seconds", 1e-3 * max(report.swap_stalls_ms, default=0.0))
    yield MetricValue("lifelong_swap_pause_seconds", 1e-3 * max(report.swap_pauses_ms, default=0.0))
    for reason, value in report.refused.items():
        yield MetricValue("lifelong_versions_refused_total", value, (reason,))
    for promise in report.promises:
        if promise.is_met is not None:
            yield MetricValue("lifelong_promise_kept", float(promise.is_met), (promise.name,))
    yield MetricValue("lifelong_replica_alarms", len(report.alarms))


def _of_learner(report: LearnerReport) -> Iterator[MetricValue]:
    counts = report.counts
    for end in LABEL_ENDS:
        yield MetricValue("lifelong_labels_total", counts.get(end, 0), (end,))
    for name, value in counts.items():
        if name.startswith(("refused_", "quarantined_")):
            yield MetricValue("lifelong_labels_total", value, (name,))
        if name.endswith("_failed"):
            yield MetricValue("lifelong_failures_total", value, (name.removesuffix("_failed"),))
        if name.startswith("gate_") and name != "gate_in_a_row":
            yield MetricValue("lifelong_gate_refusals_total", value, (name.removeprefix("gate_"),))
    yield MetricValue("lifelong_gate_refusals_in_a_row", counts.get("gate_in_a_row", 0))
    yield MetricValue("lifelong_lag_records", report.lag)
    yield MetricValue("lifelong_late_labels", counts.get("late_searched", 0) + counts.get("late_waiting", 0))
    yield MetricValue("lifelong_accuracy", report.accuracy, ("all",))
    yield MetricValue("lifelong_accuracy", report.recent_accuracy, ("recent",))
    yield MetricValue("lifelong_holdout_accuracy", report.evaluation.accuracy)
    lost = report.evaluation.anchor_accuracy - report.evaluation.accuracy_beside_anchor
    yield MetricValue("lifelong_forgetting", max(0.0, lost))
    yield from _prefixed("lifelong_drifts_total", counts, "drift_")
    yield MetricValue("lifelong_replay_samples", report.replay_samples)
    yield MetricValue("lifelong_classes", report.num_classes)
    yield MetricValue("lifelong_version", report.version)
    yield MetricValue("lifelong_versions_published_total", counts.get("published", 0))
    for step, value_ms in report.publish_ms.items():
        yield MetricValue("lifelong_publish_seconds", 1e-3 * value_ms, (step,))
    yield MetricValue("lifelong_learn_seconds_per_label", 1e-3 * report.learn_ms_per_label)
    for end in ROUND_ENDS:
        yield MetricValue("lifelong_rounds_total", counts.get(f"rounds_{end}", 0), (end,))
    for tier in TIERS:
        yield MetricValue("lifelong_rounds_begun_total", counts.get(f"rounds_{tier}", 0), (tier,))
    yield MetricValue("lifelong_alarms", len(report.alarms))


def _of_controller(report: ControllerReport) -> Iterator[MetricValue]:
    for rate in report.label_rates:
        yield MetricValue("lifelong_arm_answers", rate.answers, (rate.arm,))
        yield MetricValue("lifelong_arm_labels", rate.labels, (rate.arm,))
    for each in report.arm_accuracies:
        yield MetricValue("lifelong_arm_accuracy", each.right / each.labels, (each.arm,))
        yield MetricValue("lifelong_arm_accuracy_low", each.low, (each.arm,))
        yield MetricValue("lifelong_arm_accuracy_high", each.high, (each.arm,))
    if report.swap_skews_ms:
        yield MetricValue("lifelong_swap_skew_seconds", 1e-3 * max(report.swap_skews_ms))
    yield from _prefixed("lifelong_rollout_failures_total", report.counts, "failed_")
    yield MetricValue("lifelong_rollout_alarms", len(report.alarms))


def _prefixed(name: str, counts: Mapping[str, int], prefix: str) -> Iterator[MetricValue]:
    """Yields the counts whose name begins with `prefix`, each under the rest of its name."""
    for count, value in counts.items():
        if count.startswith(prefix):
            yield MetricValue(name, value, (count.removeprefix(prefix),))
