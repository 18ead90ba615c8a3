"""What replicas, the learner and the rollout controller say of themselves."""

from typing import Literal

from wire.records.record import Record
from wire.records.weights import Evaluation


class ReplicaReport(Record, frozen=True, kw_only=True):
    """What one replica serves now, and what it has seen. Kept in Redis for a few seconds, then gone with the replica.

    `swap_stalls_ms` are the last few pauses between two batches with a flip, `swap_pauses_ms` those before each of
    them, without one. `refused` counts versions that were not taken, by reason; `counts` counts answers, duplicates,
    dead letters and refusals of input, by name.

    `damaged` are digests of blobs that versions in force need and that are missing or not what their digest says: who
    has their bytes may write them again. `stand_in` is the version that answers in place of the plan's stable one,
    which this replica cannot have (0: it has it).
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


class Drift(Record, frozen=True, kw_only=True):
    """A signal of the stream whose mean has risen by more than chance, found after `at_label` labels.

    `signal` is `error` (of given answers), `classes 1-16` (the same for those that came as the 1st to 16th) or
    `distance` (of texts to the nearest class mean, 1 - cosine).
    """

    signal: str
    at_label: int
    before: float
    after: float

    def __str__(self) -> str:
        return f"{self.signal} {self.before:.2f} -> {self.after:.2f} at label {self.at_label}"


class LearnerReport(Record, frozen=True, kw_only=True):
    """Where the learner stands. Kept in Redis for a few seconds, then gone with the learner.

    `state` is standby, learning or stopped; `version` is the one it learns on from. `counts` holds the ends of labels
    by name (labels = matched + late + duplicate + orphan + refused_* + quarantined_* + parked, and matched = learnt +
    held_back + over_capacity + set_aside; `labels_evicted` are of classes that lost their row since), messages that
    were no record (`unreadable_*`), refusals of the gate (`gate_*`), slow rounds (`rounds_*`), drifts (`drift_*`),
    failures, and letters to operators (`letters_*`). `accuracy` is prequential: of given answers, before their label
    was learnt. `evaluation` is that of the published version, `refusals` say why the gate did not let pass what came
    after it. `is_rested`: the slow tier has nothing to do until labels come. `publish_ms` is the last publication, step
    by step; `drifts` are the last few; `alarms` say which labels are held as a flip now, which windows of labels are
    too small, and that classes have no row.
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
    held_back_samples: int = 0
    round_phase: str = ""
    round_progress: float = 0.0
    is_rested: bool = False
    publish_ms: dict[str, float] = {}
    learn_ms_per_label: float = 0.0
    drifts: tuple[Drift, ...] = ()
    alarms: tuple[str, ...] = ()

    @property
    def num_drifts(self) -> int:
        """All that were found, however long ago."""
        return sum(count for name, count in self.counts.items() if name.startswith("drift_"))


class ControllerReport(Record, frozen=True, kw_only=True):
    """Where the rollout stands. Kept in Redis for a few seconds, then gone with the controller that leads.

    `evidence` is what the labels said since the last decision, in words. `counts` holds the ends of answers and labels
    by name, and failures by the step that failed (`failed_*`). `alarms` say what goes wrong now; one ends when the step
    succeeds.
    """

    controller: str
    time_ms: int
    evidence: str = ""
    counts: dict[str, int] = {}
    alarms: tuple[str, ...] = ()
