"""Every record that crosses a process, with the topic or key it travels under.

    client --Event--> serving --Answer--> client, learner
    client --Feedback--> learner --WeightManifest + blobs--> serving --ReplicaReport--> rollout
    rollout --RolloutPlan--> serving          whoever refuses --DeadLetter--> operator
    learner --LearnerReport, Quarantined--> operator

Evolution: a new field has a default and needs no new topic; a change of meaning or type is a new record under a new
topic (`events.v2`). Readers of topics ignore unknown fields; the reader of manifests refuses an unknown `format`,
`format_version` or `model_spec` by name, because wrong weights are worse than none.

Rejected: a schema registry (one machine needs none, and the versioned topic name says it all) and a `common/` room
(both sides already depend on `wire`).
"""

from typing import ClassVar, Literal, TypeAlias

import msgspec

MAX_EVENT_BYTES = 1 << 20
"""Largest payload of an event, in bytes; a larger one is a dead letter (Kafka) or a 413 (HTTP)."""

MAX_TEXT_CHARS = 16_384
"""Longest text that an `Answer` carries back, in characters. The model reads at most 512 tokens of it."""

ArmName: TypeAlias = str


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A value that crosses a process: frozen, keyword-only, compared by content."""


class Event(Record, frozen=True, kw_only=True):
    """A text to be answered.

    `id` is unique within `source`; `key` names the entity (customer, device) and decides the arm and the partition.
    """

    TOPIC: ClassVar[str] = "events.v1"
    TYPE: ClassVar[str] = "lifelong.event.v1"

    id: str
    text: str
    key: str = ""
    source: str = ""
    time_ms: int = 0

    @property
    def message_id(self) -> str:
        return self.id

    @property
    def entity(self) -> str:
        """What the arm is chosen by: the key, or the id of an event that has none."""
        return self.key if self.key else self.id


class Answer(Record, frozen=True, kw_only=True):
    """What the model said of one event, and which weights said it.

    `text` is the event's text, so that a label alone is enough to learn from the pair. `label` is None while the
    weights know no class. `scores` are the best few classes with their probabilities, best first. `receipt` proves
    that the service gave it, see `wire.receipts`.
    """

    TOPIC: ClassVar[str] = "answers.v1"
    TYPE: ClassVar[str] = "lifelong.answer.v1"

    event_id: str
    text: str
    label: str | None
    score: float
    weights_version: int
    arm: ArmName
    precision: str
    rollout_revision: int
    scores: tuple[tuple[str, float], ...] = ()
    key: str = ""
    source: str = ""
    event_time_ms: int = 0
    time_ms: int = 0
    receipt: str = ""

    @property
    def message_id(self) -> str:
        return self.event_id

    @property
    def entity(self) -> str:
        return self.key if self.key else self.event_id


class Feedback(Record, frozen=True, kw_only=True):
    """The label of an event that was answered, said by `source` at `time_ms`.

    `key` and `receipt` are those of the answer, where the source has them. `approval` is made by an operator who sends
    a quarantined label again. Both are checked by `wire.receipts`.
    """

    TOPIC: ClassVar[str] = "feedback.v1"
    TYPE: ClassVar[str] = "lifelong.feedback.v1"

    event_id: str
    label: str
    key: str = ""
    source: str = ""
    time_ms: int = 0
    receipt: str = ""
    approval: str = ""

    @property
    def message_id(self) -> str:
        return f"{self.event_id}/{self.source}"

    @property
    def entity(self) -> str:
        """The partition key: the event's id, so that every label of an event lies in one partition."""
        return self.event_id


class DeadLetter(Record, frozen=True, kw_only=True):
    """A message that was refused: why, where it came from, and the untouched payload."""

    TOPIC: ClassVar[str] = "deadletter.v1"
    TYPE: ClassVar[str] = "lifelong.deadletter.v1"

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    payload: bytes
    source: str = ""
    time_ms: int = 0

    @property
    def message_id(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    @property
    def entity(self) -> str:
        return self.message_id


class Quarantined(Record, frozen=True, kw_only=True):
    """A label that the learner refused or held, and why: everything of its `Feedback`, and what it was said of.

    `text` and `answered`, the label that the service gave, are there where the answer was known. An operator who finds
    the label right sends it again.
    """

    TOPIC: ClassVar[str] = "quarantine.v1"
    TYPE: ClassVar[str] = "lifelong.quarantined.v1"

    reason: str
    event_id: str
    label: str
    key: str = ""
    source: str = ""
    time_ms: int = 0
    receipt: str = ""
    text: str = ""
    answered: str | None = None

    @property
    def message_id(self) -> str:
        return f"{self.event_id}/{self.source}/{self.reason}"

    @property
    def entity(self) -> str:
        return self.event_id

    @property
    def feedback(self) -> Feedback:
        """The label as it came."""
        return Feedback(
            event_id=self.event_id,
            label=self.label,
            key=self.key,
            source=self.source,
            time_ms=self.time_ms,
            receipt=self.receipt,
        )


TopicRecord: TypeAlias = Event | Answer | Feedback | DeadLetter | Quarantined

TOPIC_RECORDS: tuple[type[TopicRecord], ...] = (Event, Answer, Feedback, DeadLetter, Quarantined)


class TensorPart(Record, frozen=True, kw_only=True):
    """One plain array of a stored tensor: dtype by safetensors name (`I8`, `U8`, `I32`, `F16`, `F32`), and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class TensorEntry(Record, frozen=True, kw_only=True):
    """One named weight: a blob of safetensors bytes under its SHA-256, and what must be found inside.

    `scheme` says how the parts make the tensor (`n8g64`: INT8 whose high plane is INT4 in groups of 64; `w8c`: INT8 per
    output channel; `fp32`).
    """

    name: str
    scheme: str
    digest: str
    num_bytes: int
    parts: tuple[TensorPart, ...]


class Probe(Record, frozen=True, kw_only=True):
    """An input with the logits the learner saw for it: a replica must see the same before it serves the version."""

    text: str
    logits: tuple[float, ...]


class StageEvaluation(Record, frozen=True, kw_only=True):
    """How a version does on the held-back samples of classes that came at about the same time, beside its parent."""

    num_labels: int
    accuracy: float
    parent_accuracy: float


class Evaluation(Record, frozen=True, kw_only=True):
    """How the version does on held-back feedback beside its parent, both at their best precision, in [0, 1].

    `negative_flips` is the share of samples that the parent named rightly and the version does not. `stages` has the
    oldest classes first. `worst_class` lost most, `worst_class_drop` of its accuracy. `anchor` is an older version that
    is compared with on `anchor_labels` samples that it knew, both choosing among the classes that it had.
    `head_update` and `top_update` say how far the head and the trained blocks have moved, relative to their norm.
    """

    num_labels: int = 0
    accuracy: float = 0.0
    parent_accuracy: float = 0.0
    negative_flips: float = 0.0
    stages: tuple[StageEvaluation, ...] = ()
    worst_class: str = ""
    worst_class_drop: float = 0.0
    anchor: int = 0
    anchor_labels: int = 0
    anchor_accuracy: float = 0.0
    accuracy_beside_anchor: float = 0.0
    head_update: float = 0.0
    top_update: float = 0.0


class PrecisionEvaluation(Record, frozen=True, kw_only=True):
    """What the learner measured of one precision that the weights can be run in: `int8` or `int4`.

    `accuracy` is on the same few held-back samples for all precisions; `cosine` (mean, of the embeddings) and
    `agreement` (share of texts that get the same label) compare with full precision. Accuracy and agreement in [0, 1].
    """

    name: str
    accuracy: float = 0.0
    cosine: float = 1.0
    agreement: float = 1.0


class WeightManifest(Record, frozen=True, kw_only=True):
    """A version of the weights: its tensors by digest, what it was trained through, and what was measured.

    `version` grows by one; `parent` is the version it was trained from (0: none). `config` is the model's canonical
    JSON and `model_spec` its hash together with the tokenizer's. `trained_through` maps `topic/partition` to the next
    offset to read: every record below it had its effect. `labels[i]` names row i of the head. `precisions` are those
    that may answer, the best first; the probes hold for that one. `erased` counts the erasures (`Erasure`) that were
    carried out before it was made: nothing about those subjects is in its sums.
    """

    FORMAT: ClassVar[str] = "lifelong-weights"
    FORMAT_VERSION: ClassVar[int] = 2

    version: int
    parent: int
    model_spec: str
    config: str
    labels: tuple[str, ...]
    precisions: tuple[PrecisionEvaluation, ...]
    tensors: tuple[TensorEntry, ...]
    probes: tuple[Probe, ...]
    trained_through: dict[str, int]
    evaluation: Evaluation
    epoch: int
    created_ms: int
    erased: int = 0
    format: str = "lifelong-weights"
    format_version: int = 2

    @property
    def num_bytes(self) -> int:
        """Bytes of all blobs."""
        return sum(tensor.num_bytes for tensor in self.tensors)


class Erasure(Record, frozen=True, kw_only=True):
    """What became of the wish that everything about a subject be forgotten; `digest` is the subject's, `wire.subjects`.

    It is the learner's `number`th erasure, counted from 1. `removed` counts samples by where they were. `version` is
    the first that was made without them (0: not published yet); a manifest whose `erased` is `number` or more says so.
    `is_purged`: no older version and no older checkpoint is left.
    """

    digest: str
    number: int
    time_ms: int
    removed: dict[str, int] = {}
    version: int = 0
    is_purged: bool = False


class VersionEntry(Record, frozen=True, kw_only=True):
    """One line of the history of versions: what happened to `version`, when, and why."""

    version: int
    action: Literal["published", "promoted", "withdrawn", "rolled_back", "pinned"]
    time_ms: int
    detail: str = ""


class Arm(Record, frozen=True, kw_only=True):
    """A share of the traffic, in [0, 1], and the version that answers it."""

    name: ArmName
    version: int
    share: float


STABLE: ArmName = "stable"
CANDIDATE: ArmName = "candidate"


class RolloutPlan(Record, frozen=True, kw_only=True):
    """Which version answers which share of the entities.

    `revision` grows by one with every change. `salt` makes the split; it changes only when a new split is wanted.
    `previous` is the stable version before this one, which a rollback returns to (0: none). While `pinned`, nothing
    is promoted and no candidate follows.
    """

    revision: int
    salt: str
    arms: tuple[Arm, ...]
    previous: int = 0
    pinned: bool = False
    reason: str = ""
    time_ms: int = 0

    def arm(self, name: ArmName) -> Arm | None:
        return next((arm for arm in self.arms if arm.name == name), None)

    @property
    def stable(self) -> int:
        """The version of the stable arm (0: none yet)."""
        arm = self.arm(STABLE)
        return arm.version if arm else 0

    @property
    def candidate(self) -> int:
        """The version of the candidate arm (0: none)."""
        arm = self.arm(CANDIDATE)
        return arm.version if arm else 0

    @property
    def versions(self) -> tuple[int, ...]:
        """Every version that answers traffic, stable first."""
        return tuple(dict.fromkeys(arm.version for arm in self.arms))


class ReplicaReport(Record, frozen=True, kw_only=True):
    """What one replica serves now, and what it has seen. Kept in Redis for a few seconds, then gone with the replica.

    `swap_stalls_ms` are the last few pauses between two batches that a flip caused. `refused` counts versions that
    were not taken, by reason; `counts` counts answers, duplicates, dead letters and refusals of input, by name.
    """

    replica: str
    revision: int
    versions: tuple[int, ...]
    time_ms: int
    swaps: int = 0
    swap_stalls_ms: tuple[float, ...] = ()
    refused: dict[str, int] = {}
    counts: dict[str, int] = {}
    queue_items: int = 0
    model_bytes: dict[str, int] = {}


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
    held_back + over_capacity + set_aside), messages that were no record (`unreadable_*`), refusals of the gate
    (`gate_*`), slow rounds (`rounds_*`), drifts (`drift_*`) and failures; what could not be sent is `*_lost`.
    `accuracy` is prequential: of given answers, before their label was learnt. `evaluation` is that of the published
    version, `refusals` say why the gate did not let pass what came after it. `is_rested`: the slow tier has nothing to
    do until labels come. `publish_ms` is the last publication, step by step; `drifts` are the last few; `alarms` say
    which labels are held as a flip now.
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

    @property
    def num_drifts(self) -> int:
        """All that were found, however long ago."""
        return sum(count for name, count in self.counts.items() if name.startswith("drift_"))

    alarms: tuple[str, ...] = ()


def topic_name(prefix: str, record: type[TopicRecord]) -> str:
    """The topic of a record in the environment `prefix`: `topic_name("eu.", Event)` is `eu.events.v1`."""
    return f"{prefix}{record.TOPIC}"


def key_name(prefix: str, *parts: str | int) -> str:
    """A Redis key in the environment `prefix`: `key_name("eu.", "blob", digest)` is `eu.blob:<digest>`."""
    return f"{prefix}{':'.join(str(part) for part in parts)}"
