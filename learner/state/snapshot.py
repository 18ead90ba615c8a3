"""Everything the learner knows, as one value, and the bytes of that value in a checkpoint file.

    Snapshot(facts, tensors) <--encode, decode--> magic word, SHA-256 of the rest, safetensors

Everything that is no tensor is encoded with msgpack and stored as one uint8 tensor, `facts`. The digest is needed
because safetensors notices a missing byte, but no flipped one.
"""

import math
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from learner.commands import CommandsState
from learner.drift import ConceptChangesState, DriftState
from learner.encoder.base import Adopted, Origin
from learner.errors import CheckpointRefused, CheckpointUnknown
from learner.fast.rows import ClassesState
from learner.intake.join import JoinState
from learner.intake.outbox import LettersState
from learner.intake.trust import TrustState
from learner.memory import ReplayState
from learner.progress import LearnerProgress, progress_of
from learner.quality.comparison import Anchor
from learner.rounds.plan import RoundPlan
from learner.samples import Labelled
from model.plan import layer_of
from wire.records import Lineage, LogMark, WeightManifest

MAGIC: Final = b"LLCKPT01"
HEADER_BYTES: Final = len(MAGIC) + sha256().digest_size

FORMAT: Final = 5
"""The number grows with every release that has another field, so that an older program refuses the file instead of
losing what it does not know. The fields of each format are in tests/learner/golden."""

RENAMED_COUNTS: Final = {
    "held_back": "holdout",
    "guessing_rounds": "pseudo_label_rounds",
    "guessed_at": "pseudo_labelled_at",
}
"""What the counts of older checkpoints are called now."""

FAST_HEAD: Final = "fast."
TOP: Final = "top."
"""What the names of the sums of the fast head, and those of the weights of the trained blocks, begin with."""

STATE: Final = "state."
"""What the names of the parts of the tensors of inputs begin with (`model.inputs`): the sums are under these."""

RENAMED_STATE: Final = ("scales.", "state.features.scales.")
"""What the names of the parts of scales of numbers began with in older checkpoints, and now."""

States: TypeAlias = Mapping[str, Mapping[str, Tensor]]
"""The parts of the tensors of inputs, by the names of tensor and part."""

MEANS: Final = "round.means"
"""Name of the tensor of class means from which the auxiliary head of the round under way started."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is no tensor.

    version      the published version that the learner goes on from
    pending      the version that this state was about to be published as
    epoch        the epoch of the leader that wrote it
    origin       what the sums and the trained blocks belong to. Two machines may round a few of the frozen weights
                 differently, and can still go on from each other's state.
    offsets      `topic/partition` -> the next offset to read: every record below it had its effect
    marks        `topic/partition` -> what is known of its log before the offset
    read_first   offsets below which nothing is published: `version` already knows those records
    commands     those of operators that the learner holds
    applied_seq  the number of the last command that is in what is known
    adopted      the encoder that took the place of that of the settings, if one did
    source       what format 1 had in place of `origin`
    """

    format: int = FORMAT
    epoch: int = 0
    version: int
    last_version: int
    pending: WeightManifest | None
    offsets: dict[str, int]
    classes: list[str]
    counts: dict[str, int]
    progress: LearnerProgress | None = None
    num_scored: int
    num_correct: int
    recent: list[bool]
    temperature: float
    join: JoinState
    replay: ReplayState[Labelled]
    holdout: ReplayState[Labelled] = msgspec.field(name="held_back")
    round_plan: RoundPlan | None
    since_round: ReplayState[Labelled] | None = None
    lineage: Lineage = Lineage(gap="the program that kept it before had no lineage")
    anchor: Anchor | None = None
    trust: TrustState | None = msgspec.field(default=None, name="guard")
    letters: LettersState = LettersState()
    support: ClassesState = ClassesState()
    marks: dict[str, LogMark] = {}
    drift: DriftState = DriftState()
    concept_changes: ConceptChangesState = ConceptChangesState()
    read_first: dict[str, int] = {}
    commands: CommandsState = CommandsState()
    applied_seq: int = 0
    origin: Origin | None = None
    adopted: Adopted | None = None
    source: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The state of a learner: `facts`, and tensors by name."""

    facts: Facts
    tensors: dict[str, Tensor]

    @classmethod
    def of(
        cls,
        facts: Facts,
        *,
        sums: Mapping[str, Tensor],
        top: Mapping[str, Tensor],
        means_CD: Tensor | None,
        states: States = MappingProxyType({}),
    ) -> "Snapshot":
        """Makes a snapshot of `facts`, the sums of the fast head, the trained blocks, the means of the round, and the
        tensors of inputs."""
        tensors = {f"{FAST_HEAD}{name}": value for name, value in sums.items()}
        for name, parts in states.items():
            tensors |= {f"{STATE}{name}.{part}": value for part, value in parts.items()}
        tensors |= {f"{TOP}{name}": value for name, value in top.items()}
        if means_CD is not None:
            tensors[MEANS] = means_CD
        return cls(facts=facts, tensors=tensors)

    @property
    def sums(self) -> dict[str, Tensor]:
        """The sums of the fast head, by name."""
        return self._named(FAST_HEAD)

    @property
    def states(self) -> States:
        """The parts of the tensors of inputs, by name; empty where there are none."""
        found: dict[str, dict[str, Tensor]] = {}
        for name, value in self._named(STATE).items():
            tensor, _, part = name.rpartition(".")
            found.setdefault(tensor, {})[part] = value
        return found

    @property
    def top(self) -> dict[str, Tensor]:
        """The weights of the blocks that were ever trained, by name."""
        return self._named(TOP)

    @property
    def origin(self) -> Origin:
        """What the state belongs to; that of format 1 is derived from its source and its tensors."""
        if self.facts.origin is not None:
            return self.facts.origin
        encoder, _, seed = self.facts.source.rpartition("/")
        num_sums = len(self.sums["gram"])  # one triangle of a symmetric matrix
        return Origin(
            encoder=encoder,
            seed=int(seed),
            num_features=math.isqrt(2 * num_sums),
            trainable_layers=len({layer_of(name) for name in self.top}),
        )

    @property
    def progress(self) -> LearnerProgress:
        """How far the learner was, as a value of one's own."""
        return progress_of(self.facts.counts) if self.facts.progress is None else copy(self.facts.progress)

    def _named(self, prefix: str) -> dict[str, Tensor]:
        """Returns the tensors whose names begin with `prefix`, by the rest of their names."""
        return {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}


def upgraded(snapshot: Snapshot) -> Snapshot:
    """Returns a snapshot of an older format as this program would have written it."""
    facts = msgspec.structs.replace(snapshot.facts, format=FORMAT, source="")
    if snapshot.facts.origin is None and snapshot.facts.source:
        facts = msgspec.structs.replace(facts, origin=snapshot.origin)
    return replace(snapshot, facts=facts)


def encode(snapshot: Snapshot) -> bytes:
    """Returns the bytes of a checkpoint file."""
    facts = bytearray(msgspec.msgpack.encode(snapshot.facts))
    body: bytes = save(snapshot.tensors | {"facts": torch.frombuffer(facts, dtype=torch.uint8)})
    return b"".join((MAGIC, sha256(body).digest(), body))


def decode(data: bytes) -> Snapshot:
    """Returns the snapshot in a checkpoint file.

    Raises CheckpointRefused unless every byte is what was written, CheckpointUnknown where another program wrote it.
    """
    body = memoryview(data)[HEADER_BYTES:]
    if data[: len(MAGIC)] != MAGIC:
        raise CheckpointRefused(f"no checkpoint: it begins with {data[: len(MAGIC)]!r}")
    if sha256(body).digest() != data[len(MAGIC) : HEADER_BYTES]:
        raise CheckpointRefused(f"{len(data)} bytes that are not what was written")
    try:
        tensors = load(bytes(body))
        facts = _decode_facts(tensors.pop("facts").numpy().tobytes())
        before, now = RENAMED_STATE
        renamed = {
            f"{now}{name.removeprefix(before)}" if name.startswith(before) else name: value
            for name, value in tensors.items()
        }
        return Snapshot(facts=facts, tensors=renamed)
    except (SafetensorError, KeyError, msgspec.DecodeError) as error:
        raise CheckpointUnknown(f"written by another version of this program: {error}") from error


class _Head(msgspec.Struct):
    """The part that is decoded before the rest, so that a newer format is refused by its number.

    Formats before 5 held erasures and commands about labels otherwise. They are lost if they are not read.
    """

    format: int = 1
    erased: dict[str, Any] = {}
    label_commands: list[Any] = []


def _decode_facts(data: bytes) -> Facts:
    head = msgspec.msgpack.decode(data, type=_Head)
    if head.format > FORMAT:
        raise CheckpointUnknown(f"written by a newer program: format {head.format}; this one reads up to {FORMAT}")
    if head.erased.get("erasures") or head.label_commands:
        raise CheckpointUnknown(f"format {head.format} with commands of operators, which no release has written")
    facts = msgspec.msgpack.decode(data, type=Facts)
    counts = {RENAMED_COUNTS.get(name, name): count for name, count in facts.counts.items()}
    return msgspec.structs.replace(facts, counts=counts)
