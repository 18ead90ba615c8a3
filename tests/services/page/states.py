"""Builds the reports of a service, for the tests of the page and the terminal."""

from rollout.operator import RolloutStatus
from wire.records import (
    CANDIDATE,
    STABLE,
    Arm,
    ArmAccuracy,
    CohortEvaluation,
    Confusion,
    ControllerReport,
    Decision,
    Drift,
    Evaluation,
    LearnerReport,
    Promise,
    ReplicaReport,
    RolloutPlan,
    VersionEntry,
)

CLASSES = 13


def replica_report(name: str = "r1", *, time_ms: int = 1_000, answers: int = 0) -> ReplicaReport:
    """Returns the report of a replica that has answered this many texts, each within 5 to 10 ms."""
    return ReplicaReport(
        replica=name,
        revision=4,
        versions=(11, 12),
        time_ms=time_ms,
        swaps=2,
        swap_stalls_ms=(0.5, 1.5),
        queue_items=3,
        profile="base",
        promises=(
            Promise(name="p99_ms", limit=150.0, is_ceiling=True, value=12.5),
            Promise(name="accuracy", limit=0.9, is_ceiling=False, value=0.8),
            Promise(name="model_mb", limit=9.0, is_ceiling=True),
        ),
        latency_counts=(0, 0, 0, answers, *[0] * (CLASSES - 4)),
    )


LEARNER = LearnerReport(
    learner="l1",
    state="learning",
    time_ms=1_000,
    version=12,
    num_classes=2,
    counts={"learnt": 40, "late": 0, "refused_forged": 3, "drift_error": 1},
    lag=4,
    accuracy=0.75,
    recent_accuracy=0.875,
    evaluation=Evaluation(
        num_labels=64,
        accuracy=0.9,
        cohorts=(CohortEvaluation(num_labels=32, accuracy=0.875, parent_accuracy=0.75),),
        anchor_accuracy=0.9,
        accuracy_beside_anchor=0.85,
    ),
    replay_samples=40,
    holdout_samples=10,
    drifts=(Drift(signal="error", at_label=40, before=0.125, after=0.5),),
    alarms=("'refund' is said to be 'delivery'",),
    confusions=(Confusion(label="refund", answered="delivery", answers=3),),
)

CONTROLLER = ControllerReport(
    controller="c1",
    time_ms=1_000,
    alarms=("collect: it is gone",),
    arm_accuracies=(ArmAccuracy(arm=STABLE, labels=20, right=15, low=0.5, high=0.9),),
    label_to_live_counts=(0, 0, 10, *[0] * 11),
    label_to_live_sum_ms=2_500.0,
    swap_skews_ms=(12.0, 20.0),
)

PLAN = RolloutPlan(
    revision=4,
    salt="s",
    arms=(Arm(name=STABLE, version=11, share=0.9), Arm(name=CANDIDATE, version=12, share=0.1)),
    stable_since_ms=900,
)

DECISION = Decision(version=11, action="promoted", time_ms=900, rule="B", reason="better by 9 labels")

HISTORY = (
    VersionEntry(version=12, action="published", time_ms=950),
    VersionEntry(version=11, action="promoted", time_ms=901),
)


def status(*, is_whole: bool = True) -> RolloutStatus:
    """Returns the status of a service; all its processes have reported, or, if not `is_whole`, none."""
    return RolloutStatus(
        plan=PLAN if is_whole else None,
        current=12,
        replicas=(replica_report(),) if is_whole else (),
        history=HISTORY if is_whole else (),
        learner=LEARNER if is_whole else None,
        controller=CONTROLLER if is_whole else None,
        num_unreadable=0 if is_whole else 1,
    )
