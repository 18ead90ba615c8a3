"""Versions of the weights. A version is a manifest, which names its tensors by digest and has its evaluation and
origin.

    WeightManifest -> TensorEntry: a blob by digest        -> Probe: what a replica must compute before it serves them
                   -> Evaluation, PrecisionEvaluation      -> Lineage, HeadSolution: how to reproduce it, bit for bit
                   -> NameChanges: differences from the reference  -> Certainty: how certain it is of texts
                   -> LabelSpace: the kind of its labels
    EncoderOffer   -> TensorEntry: an encoder that an operator offers

Rejected:

- Tensors inside the manifest: a version that differs only in its head would be stored and fetched as a whole.
- Pickled tensors: reading them would run any code in them.
- An offer that names a folder: the learner may run on another machine.
"""

from typing import ClassVar, Final, Literal, NamedTuple, TypeAlias

import msgspec

from wire.kinds import DEFAULT
from wire.records.commands import CommandBody, LabelChange
from wire.records.record import Record

MAX_NEW_CLASSES: Final = 64
"""Highest number of new classes that a manifest lists."""

RoundKind: TypeAlias = Literal["labels", "rehearsal", "guesses"]
"""The data of a slow round: new labels, the replay memory while no labels arrive (rehearsal), or pseudo-labels."""

PSEUDO_LABELS: Final = "guesses"
"""The kind of a round on pseudo-labels. The stored name stays "guesses", because older programs read manifests and
checkpoints."""

TIERS: Final = ("task", "domain", "base")
"""The depths to which a slow round may train, beginning at the top of the encoder. The learner counts rounds by depth
(`rounds_task` and so on)."""

HEAD_PREFIX: Final = "head."
"""The prefix of the names of the head's tensors. All other tensors are the encoder's."""


class Certainty(Record, frozen=True, kw_only=True):
    """How certain a version is of its answers: the distribution of the free energy over `samples` holdout samples, and
    the error rates.

    The free energy of a text is the log of the sum of exp(logit / `temperature`) over the classes. If the temperature
    is 0, nothing was measured.

    - `quantiles`: n quantiles of the free energy. A share of i / (n - 1) of the samples is below `quantiles[i]`.
    - `risks[i]`: the upper 95 % bound of the error rate among texts at or above `quantiles[i]`.
    """

    temperature: float = 0.0
    quantiles: tuple[float, ...] = ()
    risks: tuple[float, ...] = ()
    samples: int = 0


class NewClass(Record, frozen=True, kw_only=True):
    """A class that the reference does not have.

    `texts` counts the recent texts that the version assigns to the class, `labels` the labels that name it.
    """

    label: str
    texts: int
    labels: int


class NameChanges(Record, frozen=True, kw_only=True):
    """The differences between the predictions of a version and of the rollout's reference.

    - `reference`: the version with which this version is compared (0: nothing was measured).

    If both have the same encoder, they are compared on `texts` recent texts:

    - `between_old`: predictions that changed from one class of the reference to another of its classes.
    - `to_new`: predictions that changed to a class that the reference does not have.
    - `forgotten`: texts whose label the reference predicts and the version does not.
    - `lost`: texts whose label the previously published version predicts and this version does not.
    - `new_classes`: the classes that the reference does not have, at most MAX_NEW_CLASSES, the one with the most texts
      first.
    - `labels`: the number of all labels of the period in which the labels of the new classes were counted.
    - `wins`, `ties`, `losses`: the outcomes of the labelled events since the reference was set. Each event was
      predicted, before its label was learnt, by the reference and by the version that was the newest one then: only
      that version was right (a win), both or neither were right, or only the reference was right.

    If the encoders differ, only `reference` and these fields are set:

    - `held_wins`, `held_ties`, `held_losses`: the outcomes of the holdout samples, each text once: only the version is
      right, both or neither are right, or only the reference is right. Samples of classes that the reference does not
      have are left out. The reference is wrong on all of them, and the holdout has equally many samples of each class,
      so otherwise a version that adds classes would seem better even if it had forgotten others.
    - `trial_wins`, `trial_ties`, `trial_losses`: the same comparison of the two encoders on new labels, each predicted
      before the head of either encoder had learnt it.
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
    """The `kind` of a version's labels, by its name in the settings, and how to read the head's outputs.

    - `threshold`: for sets of classes, the number that has been subtracted from each output of the head.
    - `low`, `high`: for scores, their range.
    """

    kind: str
    threshold: float = 0.0
    low: float = 0.0
    high: float = 1.0


CLASSES: Final = LabelSpace(kind=DEFAULT)


class TensorPart(Record, frozen=True, kw_only=True):
    """One array of a stored tensor. `dtype` is a name of safetensors: `I8`, `U8`, `I32`, `F16` or `F32`."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class TensorEntry(Record, frozen=True, kw_only=True):
    """One named tensor: a blob of safetensors bytes, stored under its SHA-256, and the arrays that it must contain.

    `scheme` says how the parts form the tensor:

    - `n8g64`: INT8 weights whose high 4 bits are the INT4 weights, in groups of 64.
    - `w4g64`: only these INT4 weights.
    - `w8c`: INT8 with a scale for each output channel.
    - `fp32`: float32.
    - `vectors`: a layer's parameters besides its matrices.
    """

    name: str
    scheme: str
    digest: str
    num_bytes: int
    parts: tuple[TensorPart, ...]


class Probe(Record, frozen=True, kw_only=True):
    """A text and the learner's logits for it. A replica must compute the same logits before it serves the version."""

    text: str
    logits: tuple[float, ...]


class CohortEvaluation(Record, frozen=True, kw_only=True):
    """Accuracy of a version and of its parent on the holdout samples of one cohort: classes of about the same age."""

    num_labels: int
    accuracy: float
    parent_accuracy: float


class Evaluation(Record, frozen=True, kw_only=True):
    """Accuracy of the version and of its parent on `num_labels` holdout samples, in [0, 1].

    Both run at their best precision.

    - `negative_flips`: the share of samples that the parent classifies correctly and the version does not.
    - `cohorts`: the accuracy by the age of the classes, the oldest first. Its name in JSON is `stages`.
    - `worst_class`: the class whose accuracy fell most, by `worst_class_drop`.
    - `anchor`: an older version with which this version is compared to measure forgetting (0: none). `anchor_accuracy`
      and `accuracy_beside_anchor` are the accuracies of the anchor and of this version on the `anchor_labels` samples
      whose classes the anchor knows. Both versions choose only among the anchor's classes.
    - `head_update`, `top_update`: the norm of the change of the head and of the trained blocks, relative to the norm of
      their weights.

    Further pairs of numbers, of the version and of its parent:

    - `average_precision`: for each class that has a weight.
    - `micro_f1`: for sets of labels.
    - `absolute_error`: for scores, the mean.
    - `figures`: for any other kind of label.
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
    """The learner's evaluation of the weights at one precision: `int8` or `int4`.

    - `accuracy`: measured on the same few holdout samples for all precisions.
    - `cosine`: the mean cosine between the embeddings at this precision and at full precision.
    - `agreement`: the share of texts whose predicted label is the same as at full precision.
    """

    name: str
    accuracy: float = 0.0
    cosine: float = 1.0
    agreement: float = 1.0


class Round(Record, frozen=True, kw_only=True):
    """A slow round: gradient training of the encoder's top blocks.

    - `offsets`: when the round began, exactly the records below these offsets had been processed.
    - `memory_offsets`: the head was refitted under the round's encoder, on the replay memory as it was after the
      records below these offsets ({}: not yet).
    - `outcome`: whether the round's encoder replaced the previous one.
    - `layers`: the number of top blocks that the round trained. It is absent if the round trained as many as any round
      may, as in rounds that older programs wrote.
    """

    number: int
    kind: RoundKind
    offsets: dict[str, int]
    memory_offsets: dict[str, int] = {}
    outcome: Literal["running", "adopted", "dropped"] = "running"
    layers: int | msgspec.UnsetType = msgspec.UNSET


class ConceptChange(NamedTuple):
    """A class has changed its meaning: its labels for events before `since_ms` are forgotten.

    Exactly the records below `offsets` had been processed before the change.
    """

    label: str
    since_ms: int
    offsets: dict[str, int] = {}


class Lineage(Record, frozen=True, kw_only=True):
    """How to reproduce a version from the topics.

    Read the topics from their start. At the offsets of each entry, beginning with the oldest entry:

    - run the slow `rounds`,
    - forget the older labels of the classes in `concept_changes` (in JSON: `changes`),
    - apply `label_changes`, the operators' commands about labels. At equal offsets, concept changes come before these.

    The result of a round depends only on the set of records below its offsets, so these may be read in any order.

    `gap` says why the version cannot be reproduced ("": it can): labels were set aside, a subject was erased, or there
    were more rounds or concept changes than are kept.
    """

    rounds: tuple[Round, ...] = ()
    gap: str = ""
    concept_changes: tuple[ConceptChange, ...] = msgspec.field(default=(), name="changes")
    label_changes: tuple[LabelChange, ...] = ()


class HeadSolution(Record, frozen=True, kw_only=True):
    """How the weights of a head were computed, so that they can be reproduced, bit for bit.

    - `base`: the weights were solved from the exact sums over the records below these offsets.
    - `batches`: then the records up to each of these offsets were added by a rank-k update. The last offsets contain
      all records of the version.
    - `fading_share`: the share, in the result, of weights that were solved from the newest labels alone.
    - `temperature`: the number by which the weights were divided.
    - `class_weights`: the weights of classes, whose logarithms were added to the logits of the classes.
    - `arithmetic`: the library and the instruction set, which determine how results are rounded.
    """

    base: dict[str, int] = {}
    batches: tuple[dict[str, int], ...] = ()
    temperature: float = 0.0
    arithmetic: str = ""
    class_weights: dict[str, float] | msgspec.UnsetType = msgspec.UNSET
    fading_share: float | msgspec.UnsetType = msgspec.UNSET


class WeightManifest(Record, frozen=True, kw_only=True):
    """A version of the weights: its tensors by digest, the offsets up to which it was trained, and its evaluation.

    - `version`: the number of the version. Numbers increase by one.
    - `parent`: the version from which this version was trained (0: none).
    - `config`, `model_spec`: the model's configuration as canonical JSON, and the hash of it and of the tokenizer's
      digest.
    - `labels[i]`: the class of row i of the head.
    - `precisions`: the precisions that may answer, the best first. The `probes` hold for the first.
    - `trained_through`: maps `topic/partition` to the next offset to read. Every record below it has been processed.
    - `max_tokens`: texts were truncated at this length in training and evaluation, and must be in serving. 0: not
      recorded; older programs truncated at 256.
    - `erased`: the number of erasures (`Erase`) before the version was made. It has learnt nothing from these subjects.
    - `label_commands`: the number of commands about labels (`LabelCommand`) that its classes include.
    - `commands`: the number (`Command.seq`) of the last command, of any verb, that it includes.
    - `lineage`, `solution`: how to reproduce the version and the weights of its head.
    - `name_changes`: how its predictions differ from the predictions of the rollout's reference. Its name in JSON is
      `changes`.
    - `certainty`: how certain it is of texts of its classes.
    - `label_space`: the kind of its labels if they are not single classes. For sets of labels, the version predicts
      each class whose logit is above 0. For scores, the head has one row, whose logit is the place of the score in its
      range. A manifest with a label space has format 4, which programs that know no kinds of labels refuse.
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
        """The total size of the blobs in bytes."""
        return sum(tensor.num_bytes for tensor in self.tensors)

    @property
    def labelled(self) -> LabelSpace:
        """The kind of its labels; single classes if the manifest names none."""
        return CLASSES if isinstance(self.label_space, msgspec.UnsetType) else self.label_space

    @property
    def encoder_digests(self) -> dict[str, str]:
        """The digests of the encoder's tensors, by name. Versions with equal digests share the encoder."""
        return {tensor.name: tensor.digest for tensor in self.tensors if not tensor.name.startswith(HEAD_PREFIX)}


class VersionEntry(Record, frozen=True, kw_only=True):
    """An entry of the history of versions: what happened to `version`, when, and why.

    The actions `adopted` and `refused` are about an encoder that an operator offered. If it was adopted, `version` is
    the first version with this encoder. If it was refused, `version` is the current version.
    """

    version: int
    action: Literal["published", "promoted", "withdrawn", "rolled_back", "pinned", "adopted", "refused"]
    time_ms: int
    detail: str = ""


class EncoderOffer(CommandBody, frozen=True, kw_only=True):
    """Replace the encoder by a trained one, or change the size of the head, or both.

    - `name`: the operator's name for the encoder.
    - `tokenizer`: the digest of its tokenizer.
    - `config`: its configuration as canonical JSON.
    - `tensors`: its stored weights, whose blobs are in the store. Empty: the current encoder stays.
    - `num_features`: the number of random features of the head (0: unchanged).
    - `label_capacity`: the number of classes that the head has room for (0: unchanged).
    - `max_loss`: how much lower the accuracy may be, in [0, 1] (None: as much lower as between any two versions).
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
