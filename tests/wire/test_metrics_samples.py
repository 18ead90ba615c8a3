"""Tests the samples of each report: its counts under fixed names, with bounded labels."""

from wire.metrics import (
    EVERY,
    LABEL_TO_LIVE,
    LATENCY,
    LEARNER,
    METRICS,
    REPLICA,
    ROLLOUT,
    AnyReport,
    MetricValue,
    report_samples,
)
from wire.records import ArmAccuracy, ControllerReport, Evaluation, LabelRate, LearnerReport, Promise, ReplicaReport

REPLICA_REPORT = ReplicaReport(
    replica="r1",
    revision=4,
    versions=(1,),
    time_ms=2_000,
    swap_stalls_ms=(1.0, 3.0),
    refused={"not_stored": 2},
    counts={"answers_by_stand-in_int8": 5, "answers_int8": 5, "http_queue_full": 7, "dead_letters": 1, "batches": 2},
    promises=(
        Promise(name="p99_ms", limit=1.0, is_ceiling=True, value=2.0),
        Promise(name="x", limit=1, is_ceiling=True),
    ),
)
LEARNER_REPORT = LearnerReport(
    learner="l1",
    state="learning",
    time_ms=2_000,
    counts={
        "learnt": 9,
        "refused_forged": 1,
        "quarantined_flip": 2,
        "withdrawn": 3,
        "gate_collapsed": 3,
        "gate_in_a_row": 1,
        "drift_error": 4,
        "polls_failed": 5,
        "rounds_adopted": 6,
        "rounds_domain": 7,
    },
    evaluation=Evaluation(accuracy=0.9, anchor_accuracy=0.8, accuracy_beside_anchor=0.75),
    publish_ms={"gate": 20.0},
)
CONTROLLER_REPORT = ControllerReport(
    controller="c1",
    time_ms=2_000,
    counts={"failed_follow": 2},
    alarms=("a", "b"),
    swap_skews_ms=(250.0, 20.0),
    label_rates=(LabelRate(arm="stable", answers=10, labels=4),),
    arm_accuracies=(ArmAccuracy(arm="stable", labels=40, right=30, low=0.25, high=0.875),),
)


def values(report: AnyReport) -> dict[tuple[str, ...], float]:
    return {(sample.name.removeprefix("lifelong_"), *sample.labels): sample.value for sample in report_samples(report)}


def test_the_samples_of_a_replicas_report() -> None:
    found = values(REPLICA_REPORT)
    assert found["answers_total", "stand-in", "int8"] == 5
    assert found["refusals_total", "queue_full"] == 7
    assert found["versions_refused_total", "not_stored"] == 2
    assert found["swap_stall_seconds",] == 0.003
    assert found["promise_kept", "p99_ms"] == 0
    assert ("promise_kept", "x") not in found


def test_the_samples_of_a_learners_report() -> None:
    found = values(LEARNER_REPORT)
    assert found["labels_total", "withdrawn"] == 3
    assert [found["labels_total", end] for end in ("learnt", "refused_forged", "quarantined_flip", "late")] == [
        9,
        1,
        2,
        0,
    ]
    assert found["gate_refusals_total", "collapsed"] == 3
    assert ("gate_refusals_total", "in_a_row") not in found
    assert found["failures_total", "polls"] == 5
    assert found["drifts_total", "error"] == 4
    assert [found["rounds_begun_total", tier] for tier in ("task", "domain", "base")] == [0, 7, 0]
    assert round(found["forgetting",], 6) == 0.05
    assert found["publish_seconds", "gate"] == 0.02


def test_the_samples_of_a_controllers_report() -> None:
    found = values(CONTROLLER_REPORT)
    assert found["arm_answers", "stable"] == 10
    assert found["arm_labels", "stable"] == 4
    assert found["arm_accuracy", "stable"] == 0.75
    assert found["arm_accuracy_low", "stable"] == 0.25
    assert found["swap_skew_seconds",] == 0.25
    assert found["rollout_failures_total", "follow"] == 2
    assert found["rollout_alarms",] == 2


def test_every_metric_comes_from_a_report_with_its_own_labels() -> None:
    reports: tuple[AnyReport, ...] = (REPLICA_REPORT, LEARNER_REPORT, CONTROLLER_REPORT)
    for report, metrics in zip(reports, (REPLICA, LEARNER, ROLLOUT), strict=True):
        found: list[MetricValue] = [*report_samples(report)]
        plain = {metric.name for metric in (*EVERY, *metrics)} - {LATENCY, LABEL_TO_LIVE}
        assert {sample.name for sample in found} == plain
        assert all(len(sample.labels) == len(METRICS[sample.name].labels) for sample in found)
