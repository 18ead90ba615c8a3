"""The reports that replicas, the learner and the rollout controller make of their own state."""

from typing import Final, Literal

import msgspec

from wire.records.record import ArmName, Record
from wire.records.weights import Evaluation

TOLERATED_SLOWDOWN: Final = 1.25
"""A forward pass is slow if it took longer than this multiple of the median time of the stable version's passes."""

LATENCY_BOUNDS_MS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
"""Upper bounds of the buckets of a replica's latency histogram. One more bucket counts all longer latencies."""

LABEL_TO_LIVE_BOUNDS_MS: Final = (100, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 10_000, 30_000, 60_000)
"""Upper bounds of the buckets of the histogram of times from label to live. One more bucket counts all longer times."""


class VersionHealth(Record, frozen=True, kw_only=True):
    """The health of a version on one replica, since it began to answer there.

    - `errors`: how many of its `answers` failed although the stable version could answer the event.
    - `slow`: how many of the `timed` forward passes of its encoder took longer than `TOLERATED_SLOWDOWN` times the
      median of the stable version's forward passes of about as many tokens.
    """

    version: int
    answers: int = 0
    errors: int = 0
    timed: int = 0
    slow: int = 0


class Promise(Record, frozen=True, kw_only=True):
    """A service-level objective of a replica, such as `p99_ms`, and the `value` that it measured in the last minute.

    If `is_ceiling`, the value must not be above the limit; otherwise it must not be below it. None: nothing was
    measured.
    """

    name: str
    limit: float
    is_ceiling: bool
    value: float | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether the promise is kept; None if nothing was measured."""
        if self.value is None:
            return None
        return self.value <= self.limit if self.is_ceiling else self.value >= self.limit


class ReplicaReport(Record, frozen=True, kw_only=True):
    """The state of one replica, and its counters. The report expires in Redis a few seconds after the replica ends.

    - `revision`, `swapped_ms`: the revision of the plan that the replica follows, and since when (0: unknown).
    - `versions`: the versions that answer. `health` has the health of each.
    - `stand_in`: the version that answers instead of the plan's stable version, because the replica cannot load that
      one (0: the stable version answers).
    - `refused`: the number of versions that the replica refused, by reason.
    - `damaged`: the digests of missing or corrupt blobs that active versions need. Any process that has the bytes may
      write them again.
    - `swap_stalls_ms`: the last few pauses between two batches during which weights were swapped.
    - `swap_pauses_ms`: for each of these pauses, an earlier pause without a swap, for comparison.
    - `counts`: the numbers of answers, duplicates, dead letters and refused requests, by name.
    - `latency_counts`, `latency_sum_ms`: a histogram of the times from the queue to the answer, with a bucket for each
      of LATENCY_BOUNDS_MS and one for longer times, and the sum of the times.
    - `profile`, `promises`: the profile in its settings ("": none), and the service levels that it promises.
    - `keys`: the ids of the keys whose signatures it accepts (none: unknown).
    - `metrics_address`: the host and port of its /metrics ("": none).
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
        """The replica's current problems, one sentence each."""
        alarms: list[str] = []
        if self.stand_in:
            alarms.append(f"version {self.stand_in} answers instead of the stable version, which cannot be loaded")
        if self.refused and not self.versions:
            reasons = ", ".join(sorted(self.refused))
            alarms.append(f"no version answers: the replica refused every stored version ({reasons})")
        if self.damaged:
            alarms.append(f"damaged or missing blobs that the replica needs: {len(self.damaged)}")
        return tuple(alarms)


class Drift(Record, frozen=True, kw_only=True):
    """A drift alarm: the mean of a signal has risen from `before` to `after`, by more than chance. It was detected
    after `at_label` labels.

    `signal` is one of:

    - `error`: the error rate of the answers as given.
    - `classes 1-16`: the error rate of one cohort, here of the first 16 classes.
    - `distance`: the distance of a text to the nearest class mean, 1 - cosine.
    """

    signal: str
    at_label: int
    before: float
    after: float

    def __str__(self) -> str:
        return f"{self.signal} {self.before:.2f} -> {self.after:.2f} at label {self.at_label}"


class Confusion(Record, frozen=True, kw_only=True):
    """A frequent mistake: the number of recent `answers` whose class was `answered` ("": no class) although the label
    was `label`."""

    label: str
    answered: str
    answers: int


class LearnerReport(Record, frozen=True, kw_only=True):
    """The state of the learner. The report expires in Redis a few seconds after the learner ends.

    - `version`: the version from which the learner continues.
    - `durable_version`: the newest version that is known to be on the store's disk, where a power cut cannot lose it
      (0: no version of this learner).
    - `counts`: counters by name:
      - of labels: labels = matched + late + duplicate + orphan + refused_* + quarantined_* + parked, and
        matched = learnt + holdout + over_capacity + set_aside. `labels_evicted` counts labels of classes that have lost
        their row since.
      - of others: unreadable messages (`unreadable_*`), refusals of the gate (`gate_*`), slow rounds (`rounds_*`),
        drifts (`drift_*`), failures (`*_failed`), and messages to operators (`letters_*`).
    - `lag`: the number of answers and labels that are not read yet.
    - `accuracy`: the prequential accuracy: the accuracy of the answers that were sent, before their labels were learnt.
    - `recent_accuracy`: the same for recent answers.
    - `confusions`: the most frequent mistakes among recent answers since the learner started.
    - `evaluation`: the evaluation of the last published version.
    - `refusals`: the reasons why the gate refused the candidate after that version.
    - `is_rested`: no slow round is due until labels arrive.
    - `publish_ms`: the duration of each step of the last publication.
    - `read_ms`: the time at which the oldest new label of that publication was read (0: it had no new label).
    - `drifts`: the last few drift alarms.
    - `alarms`: the current alarms: labels that are held as suspected flips, label windows that are too small, classes
      without a row in the head, and a training strategy that was set aside.
    - `keys`: the ids of the keys whose signatures the learner accepts (none: unknown). It signs with the first.
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
        """The number of drifts since the learner began."""
        return sum(count for name, count in self.counts.items() if name.startswith("drift_"))


class LabelRate(Record, frozen=True, kw_only=True):
    """The number of answers that an arm gave at its current share, and of the labels that counted for these answers."""

    arm: ArmName
    answers: int
    labels: int


class ArmAccuracy(Record, frozen=True, kw_only=True):
    """The accuracy of an arm, across its versions: `right` of its last `labels` labelled answers were right.

    `low` and `high` are the bounds of a confidence sequence for the accuracy.
    """

    arm: ArmName
    labels: int
    right: int
    low: float
    high: float


class ControllerReport(Record, frozen=True, kw_only=True):
    """The state of the rollout. The report expires in Redis a few seconds after the leading controller ends.

    - `evidence`: a summary in words of the labels' evidence about the candidate.
    - `waits_for`: in words, the reason why the candidate is not decided yet.
    - `counts`: the outcomes of answers and labels by name, and failures by the step that failed (`failed_*`).
    - `alarms`: the current failures. An alarm ends when its step succeeds.
    - `label_rates`: the arms that have answered.
    - `arm_accuracies`: the arms whose answers have got labels.
    - `label_to_live_counts`, `label_to_live_sum_ms`: a histogram of the times from a label to the first answer of a
      stable version that had learnt it, with a bucket for each of LABEL_TO_LIVE_BOUNDS_MS and one for longer times, and
      the sum of the times.
    - `swap_skews_ms`: for each of the last few plans, the time between the first and the last replica that adopted it.
    - `keys`: the ids of the keys whose signatures the controller accepts (none: unknown). It signs with the first.
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
