"""The reports of replicas, the learner and the rollout controller on their own state."""

from typing import Final, Literal

import msgspec

from wire.records.record import ArmName, Record
from wire.records.weights import Evaluation

TOLERATED_SLOWDOWN: Final = 1.25
"""A forward is slow if it took longer than this multiple of the median of the stable version's."""


LATENCY_BOUNDS_MS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
"""Upper ends of the classes in which a replica counts latencies; there is one more, for what took longer."""

LABEL_TO_LIVE_BOUNDS_MS: Final = (100, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 10_000, 30_000, 60_000)
"""Upper ends of the classes in which the times from label to live are counted, as well."""


class VersionHealth(Record, frozen=True, kw_only=True):
    """How a version does on one replica, since it answers there.

    `errors` of its `answers` failed, for events that the stable version could answer. `slow` of the `timed` forwards of
    its encoder took longer than `TOLERATED_SLOWDOWN` times the median of those of the stable version's, of about as
    many tokens.
    """

    version: int
    answers: int = 0
    errors: int = 0
    timed: int = 0
    slow: int = 0


class Promise(Record, frozen=True, kw_only=True):
    """A limit that a replica promises to keep, such as `p99_ms`, and what it measured over the last minute.

    `value` is None where nothing was measured. A ceiling must not be exceeded; any other limit must be reached.
    """

    name: str
    limit: float
    is_ceiling: bool
    value: float | None = None

    @property
    def is_met(self) -> bool | None:
        """None where nothing was measured."""
        if self.value is None:
            return None
        return self.value <= self.limit if self.is_ceiling else self.value >= self.limit


class ReplicaReport(Record, frozen=True, kw_only=True):
    """What one replica serves now, and its counters. It expires in Redis a few seconds after the replica has ended.

    `swap_stalls_ms` are the last few pauses between two batches with a weight swap between them, `swap_pauses_ms` the
    pauses without a swap before each of them. `refused` counts the versions that the replica refused, by reason;
    `counts` counts answers, duplicates, dead letters and refused requests, by name.

    `damaged` are the digests of blobs that versions in force need and that are missing or corrupt: a process that has
    their bytes may write them again. `stand_in` is the version that answers in place of the plan's stable one where
    this replica cannot load that (0: it serves the stable version). `health` has the versions that answer. `profile`
    is that of its settings ("": none), and `promises` are what it is held to. `latency_counts` counts answers by the
    time from the queue to the answer, in the classes of LATENCY_BOUNDS_MS and beyond; `latency_sum_ms` is the sum of
    these times. Since `swapped_ms` the replica follows the plan of `revision` (0: unknown). `keys` are the ids of the
    keys whose signatures it accepts (none: unknown). `metrics_address` is the host and port of its /metrics ("": none).
    """

    replica: str
    revision: int
    versions: tuple[int, ...]
    time_ms: int
    swaps: int = 0
    swap_stalls_ms: tuple[float, ...] = ()
    swap_pauses_ms: tuple[float, ...] = ()
    refused: dict[str, int] = {}
    counts: dict[str, int] = {}
    queue_items: int = 0
    model_bytes: dict[str, int] = {}
    damaged: tuple[str, ...] = ()
    stand_in: int = 0
    health: tuple[VersionHealth, ...] = ()
    profile: str = ""
    promises: tuple[Promise, ...] = ()
    latency_counts: tuple[int, ...] = ()
    latency_sum_ms: float = 0.0
    swapped_ms: int = 0
    keys: tuple[str, ...] = ()
    metrics_address: str = ""

    @property
    def alarms(self) -> tuple[str, ...]:
        """What is wrong with the replica now, a sentence each."""
        found: list[str] = []
        if self.stand_in:
            found.append(f"version {self.stand_in} stands in for the stable one, which it cannot have")
        if self.refused and not self.versions:
            reasons = ", ".join(sorted(self.refused))
            found.append(f"no version answers, as every one that is stored was refused: {reasons}")
        if self.damaged:
            found.append(f"{len(self.damaged)} of the blobs that it needs are damaged or missing")
        return tuple(found)


class Drift(Record, frozen=True, kw_only=True):
    """A drift alarm: the mean of a signal has risen by more than chance, detected after `at_label` labels.

    `signal` is `error` (the error rate of given answers), `classes 1-16` (the same for the classes that came as the 1st
    to the 16th) or `distance` (of texts to the nearest class mean, 1 - cosine).
    """

    signal: str
    at_label: int
    before: float
    after: float

    def __str__(self) -> str:
        return f"{self.signal} {self.before:.2f} -> {self.after:.2f} at label {self.at_label}"


class Confusion(Record, frozen=True, kw_only=True):
    """How many of the recent answers said `answered` ("" for no class) where the label was `label`, another one."""

    label: str
    answered: str
    answers: int


class LearnerReport(Record, frozen=True, kw_only=True):
    """The state of the learner. It expires in Redis a few seconds after the learner has ended.

    `state` is standby, learning or stopped; `version` is the one from which it continues to learn. `counts` holds the
    outcomes of labels by name (labels = matched + late + duplicate + orphan + refused_* + quarantined_* + parked, and
    matched = learnt + holdout + over_capacity + set_aside; `labels_evicted` counts those of classes that have lost
    their row since). It also holds messages that were no record (`unreadable_*`), refusals of the gate (`gate_*`), slow
    rounds (`rounds_*`), drifts (`drift_*`), failures (`*_failed`), and letters to operators (`letters_*`).

    `accuracy` is prequential: the accuracy of given answers, before their label was learnt. `evaluation` is that of the
    published version; `refusals` are the reasons why the gate refused the candidate after it. `is_rested` says that
    no slow round is due until labels come. `publish_ms` holds the duration of each step of the last publication,
    `read_ms` when the oldest of the labels that came with it was read (0: it had none).
    `drifts` are the last few. `alarms` name the labels that are held as flips now, the label windows that are too
    small, classes without a row, and a slow strategy that was set aside. `durable_version` is the newest version that
    is known to be on the store's disk, where a power cut does not take it (0: none that this learner published).
    `confusions` are the most frequent mistakes among the answers of `recent_accuracy` since the learner started. `keys`
    are the ids of the keys whose signatures it accepts (none: unknown); it signs with the first.
    """

    learner: str
    state: Literal["standby", "learning", "stopped"]
    time_ms: int
    epoch: int = 0
    version: int = 0
    num_classes: int = 0
    counts: dict[str, int] = {}
    lag: int = 0
    accuracy: float = 0.0
    recent_accuracy: float = 0.0
    evaluation: Evaluation = Evaluation()
    refusals: tuple[str, ...] = ()
    replay_samples: int = 0
    holdout_samples: int = msgspec.field(default=0, name="held_back_samples")
    round_phase: str = ""
    round_progress: float = 0.0
    is_rested: bool = False
    publish_ms: dict[str, float] = {}
    learn_ms_per_label: float = 0.0
    drifts: tuple[Drift, ...] = ()
    alarms: tuple[str, ...] = ()
    durable_version: int = 0
    confusions: tuple[Confusion, ...] = ()
    keys: tuple[str, ...] = ()
    read_ms: int = 0

    @property
    def num_drifts(self) -> int:
        """The number of all drifts since the learner began."""
        return sum(count for name, count in self.counts.items() if name.startswith("drift_"))


class LabelRate(Record, frozen=True, kw_only=True):
    """The answers that an arm gave at its present share, and the labels that counted for such answers."""

    arm: ArmName
    answers: int
    labels: int


class ArmAccuracy(Record, frozen=True, kw_only=True):
    """How many of the last `labels` labels of answers of an arm, whatever its versions, said what it had answered.

    `low` and `high` are a confidence sequence of the arm's accuracy.
    """

    arm: ArmName
    labels: int
    right: int
    low: float
    high: float


class ControllerReport(Record, frozen=True, kw_only=True):
    """The state of the rollout. It expires in Redis a few seconds after the controller that leads has ended.

    `evidence` is what the labels say about the candidate, and `waits_for` what its decision waits for, in words.
    `counts` holds the outcomes of answers and labels by name, and failures by the step that failed (`failed_*`).
    `alarms` are the current failures; an alarm ends when its step succeeds. `label_rates` has the arms that answered.
    `label_to_live_counts` counts labels by the time from the label to the first answer of the stable arm that had
    learnt it, in the classes of LABEL_TO_LIVE_BOUNDS_MS and beyond; `label_to_live_sum_ms` is the sum of these times.
    `swap_skews_ms` are the times between the first and the last replica that took a plan, of the last few plans.
    `arm_accuracies` has the arms that got labels. `keys` are the ids of the keys whose signatures it accepts (none:
    unknown); it signs with the first.
    """

    controller: str
    time_ms: int
    evidence: str = ""
    counts: dict[str, int] = {}
    alarms: tuple[str, ...] = ()
    waits_for: str = ""
    label_rates: tuple[LabelRate, ...] = ()
    label_to_live_counts: tuple[int, ...] = ()
    label_to_live_sum_ms: float = 0.0
    swap_skews_ms: tuple[float, ...] = ()
    arm_accuracies: tuple[ArmAccuracy, ...] = ()
    keys: tuple[str, ...] = ()
