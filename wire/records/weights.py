"""Versions of the weights: what they consist of, and what was measured of them."""

from typing import ClassVar, Literal, TypeAlias

from wire.records.record import Record

RoundKind: TypeAlias = Literal["labels", "rehearsal", "guesses"]
"""What a slow round is for: new labels, the memory in a time of silence, or texts without a label."""


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


class Round(Record, frozen=True, kw_only=True):
    """A slow round: every record below `offsets` had its effect before it began, and no other.

    The memory was learnt again under its encoder as it was behind the records below `memory_offsets` ({}: not yet).
    `outcome` says whether that encoder took the place of the one before.
    """

    number: int
    kind: RoundKind
    offsets: dict[str, int]
    memory_offsets: dict[str, int] = {}
    outcome: Literal["running", "adopted", "dropped"] = "running"


class Lineage(Record, frozen=True, kw_only=True):
    """How a version came about: the topics, read from their start, and these rounds on the way, the oldest first.

    What a round makes depends only on which records are below its offsets, so whoever reads them in any order arrives
    at the same weights. `gap` says why the topics and the rounds do not lead here: labels were set aside,
    a subject was erased, or there were more rounds than are kept; "" where they do.
    """

    rounds: tuple[Round, ...] = ()
    gap: str = ""


class WeightManifest(Record, frozen=True, kw_only=True):
    """A version of the weights: its tensors by digest, what it was trained through, and what was measured.

    `version` grows by one; `parent` is the version it was trained from (0: none). `config` is the model's canonical
    JSON and `model_spec` its hash together with the tokenizer's. `trained_through` maps `topic/partition` to the next
    offset to read: every record below it had its effect. `labels[i]` names row i of the head. `precisions` are those
    that may answer, the best first; the probes hold for that one. `erased` counts the erasures (`Erasure`) that were
    carried out before it was made: nothing about those subjects is in its sums. `lineage` says how to make it again.
    `max_tokens` is where texts were cut when it was trained and measured, so whoever serves it cuts them there (0: not
    said, as by older programs, which cut at 256).
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
    lineage: Lineage = Lineage(gap="the program that made it kept no lineage")
    max_tokens: int = 0
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
