"""Versions of the weights: a manifest, which names tensors by digest, and how they were evaluated and made.

    WeightManifest -> TensorEntry: a blob by digest        -> Probe: what a replica must compute before it serves them
                   -> Evaluation, PrecisionEvaluation      -> Lineage, HeadSolution: how to make them again, bit for bit
                   -> NameChanges: what it names differently       -> Certainty: how certain it is of texts
                   -> LabelSpace: what its labels are
    EncoderOffer   -> TensorEntry: an encoder that an operator offers

Rejected: tensors inside the manifest (a version that changed only its head would be stored and fetched whole), tensors
as a pickled object (reading it would run whatever is in it), and an offer by the path of a folder (the learner may run
on another machine).
"""

from typing import ClassVar, Final, Literal, NamedTuple, TypeAlias

import msgspec

from wire.kinds import DEFAULT
from wire.records.commands import CommandBody, LabelChange
from wire.records.record import Record

MAX_NEW_CLASSES: Final = 64
"""The most new classes that a manifest names."""

RoundKind: TypeAlias = Literal["labels", "rehearsal", "guesses"]
"""What a slow round learns from: new labels, the replay memory while no labels come, or pseudo-labels."""

PSEUDO_LABELS: Final = "guesses"
"""The kind of a round on pseudo-labels, under its name in manifests and checkpoints, which older programs read."""

TIERS: Final = ("task", "domain", "base")
"""How deep a slow round may train, from the top of the encoder down; the learner counts `rounds_task` and so on."""

HEAD_PREFIX: Final = "head."
"""How the names of the head's tensors begin; all others are the encoder's."""


class Certainty(Record, frozen=True, kw_only=True):
    """The free energies of `samples` holdout samples, none of which was learnt, and how often answers are wrong.

    The free energy of a text is the log of the sum of exp(logit / `temperature`) over the classes (0: nothing was
    measured). `quantiles[i]` is the one that a share of i / (n - 1) of the samples is below, where there are n of them.
    `risks[i]` is the upper 95 % bound of the share of wrong answers among texts at or above `quantiles[i]`.
    """

    temperature: float = 0.0
    quantiles: tuple[float, ...] = ()
    risks: tuple[float, ...] = ()
    samples: int = 0


class NewClass(Record, frozen=True, kw_only=True):
    """A class that the reference lacks: how many recent texts the version names so, and how many labels say so."""

    label: str
    texts: int
    labels: int


class NameChanges(Record, frozen=True, kw_only=True):
    """Recent texts as the version and the reference name them.

    `reference` is the version compared with (0: nothing was measured), and `texts` the number of texts. `between_old`
    counts changes between two classes that the reference knows, `to_new` those to a class that it lacks. `forgotten`
    counts the texts whose label the reference names, and the version does not; `lost` those whose label the version
    published before names, and it does not. `wins`, `ties` and `losses` compare the line of the version, the version
    published last at each time, with the reference on the labelled events since the reference was set, each before it
    was learnt: only the line was right, both alike, only the reference was right. `new_classes` are the classes that
    the reference lacks, those of most texts first, at most MAX_NEW_CLASSES. `labels` counts all labels of the time in
    which theirs were counted.

    A version with another encoder than the reference is compared with it on the holdout: `held_wins`, `held_ties` and
    `held_losses` count the holdout samples that only the version names rightly, both alike, and only the reference,
    each text once. Samples of classes that the reference lacks are left out: it names none of them, and the holdout has
    as many of each class, so with them a version that adds classes would be better whatever it forgets. `trial_wins`,
    `trial_ties` and `trial_losses` compare the encoder of the version with that of the reference on new labels, each
    before the head of either had learnt it. Then every other field but `reference` is 0. With the same encoder these
    fields are 0.
    """

    reference: int = 0
    texts: int = 0
    between_old: int = 0
    to_new: int = 0
    wins: int = 0
    ties: int = 0
    losses: int = 0
    new_classes: tuple[NewClass, ...] = ()
    labels: int = 0
    forgotten: int = 0
    lost: int = 0
    held_wins: int = 0
    held_ties: int = 0
    held_losses: int = 0
    trial_wins: int = 0
    trial_ties: int = 0
    trial_losses: int = 0


class LabelSpace(Record, frozen=True, kw_only=True):
    """What the labels of a version are: the `kind` that the settings name.

    Of sets of classes, `threshold` was taken off each output of the head. Scores lie between `low` and `high`.
    """

    kind: str
    threshold: float = 0.0
    low: float = 0.0
    high: float = 1.0


CLASSES: Final = LabelSpace(kind=DEFAULT)


class TensorPart(Record, frozen=True, kw_only=True):
    """One array of a stored tensor: dtype by safetensors name (`I8`, `U8`, `I32`, `F16`, `F32`), and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class TensorEntry(Record, frozen=True, kw_only=True):
    """One named weight: a blob of safetensors bytes under its SHA-256, and the arrays that it must hold.

    `scheme` says how the parts form the tensor (`n8g64`: INT8 whose high plane is INT4 in groups of 64; `w4g64`: the
    INT4 alone; `w8c`: INT8 per output channel; `fp32`; `vectors`: what a layer has besides its matrices).
    """

    name: str
    scheme: str
    digest: str
    num_bytes: int
    parts: tuple[TensorPart, ...]


class Probe(Record, frozen=True, kw_only=True):
    """An input and the learner's logits for it: a replica must compute the same ones before it serves the version."""

    text: str
    logits: tuple[float, ...]


class CohortEvaluation(Record, frozen=True, kw_only=True):
    """Accuracy of a version and of its parent on the holdout samples of classes that came at about the same time."""

    num_labels: int
    accuracy: float
    parent_accuracy: float


class Evaluation(Record, frozen=True, kw_only=True):
    """Accuracy of the version and of its parent on the holdout samples, both at their best precision, in [0, 1].

    `negative_flips` is the share of samples that the parent classifies correctly and the version does not. `cohorts`
    has the oldest classes first, and is written as `stages`. `worst_class` is the class that lost most,
    `worst_class_drop` of its accuracy. `anchor` is an older version, compared on `anchor_labels` samples whose classes
    it knew; both choose among the classes of the anchor. `head_update` and `top_update` are the changes of the head and
    of the trained blocks, relative to their norm. Pairs of the version and its parent: `average_precision` of weighted
    classes, `micro_f1` of sets, the mean `absolute_error` of scores, and `figures` of labels of other kinds.
    """

    num_labels: int = 0
    accuracy: float = 0.0
    parent_accuracy: float = 0.0
    negative_flips: float = 0.0
    cohorts: tuple[CohortEvaluation, ...] = msgspec.field(default=(), name="stages")
    worst_class: str = ""
    worst_class_drop: float = 0.0
    anchor: int = 0
    anchor_labels: int = 0
    anchor_accuracy: float = 0.0
    accuracy_beside_anchor: float = 0.0
    head_update: float = 0.0
    top_update: float = 0.0
    average_precision: dict[str, tuple[float, float]] | msgspec.UnsetType = msgspec.UNSET
    micro_f1: tuple[float, float] | msgspec.UnsetType = msgspec.UNSET
    absolute_error: tuple[float, float] | msgspec.UnsetType = msgspec.UNSET
    figures: dict[str, tuple[float, float]] | msgspec.UnsetType = msgspec.UNSET


class PrecisionEvaluation(Record, frozen=True, kw_only=True):
    """The learner's evaluation of one precision in which the weights can be run: `int8` or `int4`.

    `accuracy` is measured on the same few holdout samples for all precisions. `cosine` (the mean over embeddings) and
    `agreement` (the share of texts with the same label) compare with full precision.
    """

    name: str
    accuracy: float = 0.0
    cosine: float = 1.0
    agreement: float = 1.0


class Round(Record, frozen=True, kw_only=True):
    """A slow round. Exactly the records below `offsets` had their effect before it began.

    The head was refitted under the round's encoder on the memory as it was after the records below `memory_offsets`
    ({}: not yet). `outcome` says whether that encoder replaced the one before. `layers` is the number of top blocks
    that it trained. It is written only where that is not all that any round may train, so that what was recorded before
    there were tiers has the same bytes.
    """

    number: int
    kind: RoundKind
    offsets: dict[str, int]
    memory_offsets: dict[str, int] = {}
    outcome: Literal["running", "adopted", "dropped"] = "running"
    layers: int | msgspec.UnsetType = msgspec.UNSET


class ConceptChange(NamedTuple):
    """A class that means something else for events since `since_ms`: its labels about earlier ones are forgotten.

    Exactly the records below `offsets` had their effect before.
    """

    label: str
    since_ms: int
    offsets: dict[str, int] = {}


class Lineage(Record, frozen=True, kw_only=True):
    """How to reproduce a version: read the topics from their start, and run these rounds on the way, the oldest first.

    On the way, too, restart the classes whose concepts have changed, and follow what operators did to the set of
    labels: of what came at the same offsets, the concepts first. The result of a round depends only on which
    records are below its offsets, so reading them in any order gives the same weights. `gap` says why the version
    cannot be reproduced from these: labels were set aside, a subject was erased, or there were more rounds or concept
    changes than are kept; "" where it can.
    """

    rounds: tuple[Round, ...] = ()
    gap: str = ""
    concept_changes: tuple[ConceptChange, ...] = msgspec.field(default=(), name="changes")
    label_changes: tuple[LabelChange, ...] = ()


class HeadSolution(Record, frozen=True, kw_only=True):
    """How the weights of a head were computed, so that they can be computed again, bit for bit.

    The sums below `base` were solved, and the records up to each of `batches` followed in a rank-k update, all that the
    version has. `fading_share` is the share of the newest labels. The weights were divided by `temperature`, and have
    the logarithms of `class_weights` behind them. `arithmetic`: the library and instruction set that round the results.
    """

    base: dict[str, int] = {}
    batches: tuple[dict[str, int], ...] = ()
    temperature: float = 0.0
    arithmetic: str = ""
    class_weights: dict[str, float] | msgspec.UnsetType = msgspec.UNSET
    fading_share: float | msgspec.UnsetType = msgspec.UNSET


class WeightManifest(Record, frozen=True, kw_only=True):
    """A version of the weights: its tensors by digest, the offsets it was trained through, and its evaluation.

    `version` grows by one; `parent` is the version it was trained from (0: none). `config` is the model's canonical
    JSON, and `model_spec` is the hash of it and of the tokenizer's. `trained_through` maps `topic/partition` to the
    next offset to read: every record below it had its effect. `labels[i]` names row i of the head. `precisions` are
    those that may answer, the best first; the probes hold for the first. `erased` counts the erasures (`Erase`) that
    were done before the version was made: its sums hold nothing about those subjects. `label_commands` counts the
    commands about labels (`LabelCommand`) that its classes follow, and `commands` is the number (`Command.seq`) of the
    last command of any verb that it knows. `lineage` says how to reproduce the version.
    `max_tokens` is the length at which texts were truncated in training and evaluation, and at which they must be
    truncated in serving (0: not recorded, as by older programs, which truncated at 256). `name_changes` tells what the
    version names differently from the reference of the rollout, `solution` how its head was computed, and `certainty`
    how certain it is of texts of its classes. `label_space` says what its labels are where they are no single classes:
    of sets, it names each class whose logit is above 0; of scores, the logit of its only row is the place of the score
    in its range. Then it has format 4, which programs from before there were kinds refuse; else nothing is written of
    it.
    """

    FORMAT: ClassVar[str] = "lifelong-weights"
    FORMAT_VERSIONS: ClassVar[tuple[int, ...]] = (3, 4)

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
    label_commands: int = 0
    commands: int | msgspec.UnsetType = msgspec.UNSET
    lineage: Lineage = Lineage(gap="the program that made it kept no lineage")
    max_tokens: int = 0
    name_changes: NameChanges = msgspec.field(default=NameChanges(), name="changes")
    solution: HeadSolution = HeadSolution()
    certainty: Certainty = Certainty()
    label_space: LabelSpace | msgspec.UnsetType = msgspec.UNSET
    format: str = "lifelong-weights"
    format_version: int = 3

    @property
    def num_bytes(self) -> int:
        """The size of all blobs in bytes."""
        return sum(tensor.num_bytes for tensor in self.tensors)

    @property
    def labelled(self) -> LabelSpace:
        """What its labels are."""
        return CLASSES if isinstance(self.label_space, msgspec.UnsetType) else self.label_space

    @property
    def encoder_digests(self) -> dict[str, str]:
        """The digests of the encoder's tensors, by name: versions of which these are equal share the encoder."""
        return {tensor.name: tensor.digest for tensor in self.tensors if not tensor.name.startswith(HEAD_PREFIX)}


class VersionEntry(Record, frozen=True, kw_only=True):
    """One line of the history of versions: what happened to `version`, when, and why.

    An encoder that was offered is `adopted`, first in `version`, or `refused`, while `version` was current.
    """

    version: int
    action: Literal["published", "promoted", "withdrawn", "rolled_back", "pinned", "adopted", "refused"]
    time_ms: int
    detail: str = ""


class EncoderOffer(CommandBody, frozen=True, kw_only=True):
    """A finished encoder, to take the place of the one in use, together with a head of another size, if that is wanted.

    `name` is what the operator called it, and `tokenizer` the digest of its tokenizer. `config` is its canonical JSON,
    and `tensors` are its stored weights, whose blobs are in the store; without any, the encoder in use stays. The head
    has `num_features` random features, and room for `label_capacity` classes (0: as many as before). The accuracy may
    be lower by `max_loss`, in [0, 1] (None: as much as between any two versions).
    """

    VERB: ClassVar[str] = "adopt"

    id: str
    name: str
    time_ms: int
    tokenizer: str = ""
    config: str = ""
    tensors: tuple[TensorEntry, ...] = ()
    num_features: int = 0
    label_capacity: int = 0
    max_loss: float | None = None
