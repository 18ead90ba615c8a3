"""Every metric, by name. A name that was released stays; `tests/wire/metrics.txt` freezes them.

Each label has a bounded set of values: names in our code, or the versions, arms and drift signals of one report. No
label holds an id, a text, a class or a source.
"""

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as Prometheus knows it. Counters end in `_total`; times are in seconds."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


EVERY: Final = (
    Metric("lifelong_report_time_seconds", "gauge", "Time of the report that is told (Unix)"),
    Metric("lifelong_log_losses_total", "counter", "Logs that were cut, and records that were lost", ("kind",)),
)
"""The metrics of every process that has made a report."""

REPLICA: Final = (
    Metric("lifelong_answers_total", "counter", "Answers given", ("arm", "precision")),
    Metric("lifelong_batches_total", "counter", "Batches computed; answers for each of them are the batch size"),
    Metric("lifelong_refusals_total", "counter", "Requests that were not answered", ("reason",)),
    Metric("lifelong_dead_letters_total", "counter", "Messages that could not be read or answered"),
    Metric("lifelong_queue_items", "gauge", "Texts that wait for the model"),
    Metric("lifelong_latency_seconds", "histogram", "Time from the queue to the answer"),
    Metric("lifelong_browning_out", "gauge", "1 while a replica is overloaded, and may be less accurate"),
    Metric("lifelong_plan_revision", "gauge", "Revision of the rollout's plan that a replica follows"),
    Metric("lifelong_stand_in", "gauge", "1 where another version answers, as the stable one cannot be had"),
    Metric("lifelong_swaps_total", "counter", "Swaps of weights"),
    Metric("lifelong_swap_stall_seconds", "gauge", "Longest of the last pauses between two batches with a swap"),
    Metric("lifelong_swap_pause_seconds", "gauge", "Longest of the last pauses before them, without a swap"),
    Metric("lifelong_versions_refused_total", "counter", "Versions that were not taken", ("reason",)),
    Metric("lifelong_promise_kept", "gauge", "1 where a promise is kept, 0 where it is not", ("promise",)),
    Metric("lifelong_replica_alarms", "gauge", "Alarms of a replica that are on"),
)
"""The metrics of a replica."""

LEARNER: Final = (
    Metric("lifelong_labels_total", "counter", "Labels that were read, by what became of them", ("end",)),
    Metric("lifelong_lag_records", "gauge", "Answers and labels that are not read yet"),
    Metric("lifelong_late_labels", "gauge", "Late labels whose answers are looked for, or that wait for it"),
    Metric("lifelong_accuracy", "gauge", "Accuracy of the answers as given (prequential)", ("over",)),
    Metric("lifelong_holdout_accuracy", "gauge", "Accuracy of the published version on the holdout"),
    Metric("lifelong_forgetting", "gauge", "Accuracy that the published version has lost against its anchor"),
    Metric("lifelong_drifts_total", "counter", "Drifts that were detected", ("signal",)),
    Metric("lifelong_replay_samples", "gauge", "Samples in the replay memory"),
    Metric("lifelong_classes", "gauge", "Classes that have a row"),
    Metric("lifelong_version", "gauge", "Version from which the learner goes on"),
    Metric("lifelong_versions_published_total", "counter", "Versions that were published"),
    Metric("lifelong_gate_refusals_total", "counter", "Candidates that the gate refused", ("reason",)),
    Metric("lifelong_gate_refusals_in_a_row", "gauge", "Candidates that the gate has refused since the last version"),
    Metric("lifelong_publish_seconds", "gauge", "Duration of each step of the last publication", ("step",)),
    Metric("lifelong_learn_seconds_per_label", "gauge", "Time that learning a label takes"),
    Metric("lifelong_rounds_total", "counter", "Slow rounds, by what became of them", ("end",)),
    Metric("lifelong_rounds_begun_total", "counter", "Slow rounds that have begun, by how deep they train", ("tier",)),
    Metric("lifelong_failures_total", "counter", "Steps that failed, and were tried again", ("step",)),
    Metric("lifelong_alarms", "gauge", "Alarms that are on"),
)
"""The metrics of the learner that leads."""

ROLLOUT: Final = (
    Metric("lifelong_arm_answers", "gauge", "Answers that an arm gave at its present share", ("arm",)),
    Metric("lifelong_arm_labels", "gauge", "Labels that counted for these answers", ("arm",)),
    Metric("lifelong_arm_accuracy", "gauge", "Share of the arm's last labels that it had answered", ("arm",)),
    Metric("lifelong_arm_accuracy_low", "gauge", "Lower bound of the arm's accuracy (confidence sequence)", ("arm",)),
    Metric("lifelong_arm_accuracy_high", "gauge", "Upper bound of the arm's accuracy", ("arm",)),
    Metric("lifelong_label_to_live_seconds", "histogram", "Time from a label to the stable answer that has learnt it"),
    Metric("lifelong_swap_skew_seconds", "gauge", "Longest of the last times between first and last replica to swap"),
    Metric("lifelong_rollout_failures_total", "counter", "Steps that failed, and were tried again", ("step",)),
    Metric("lifelong_rollout_alarms", "gauge", "Alarms of the rollout that are on"),
)
"""The metrics of the controller that leads."""

METRICS: Final = {metric.name: metric for metric in (*EVERY, *REPLICA, *LEARNER, *ROLLOUT)}
