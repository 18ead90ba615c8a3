"""The whole state of a learner as one value, and the bytes of this value in a checkpoint file.

    Snapshot(facts, tensors) <--encode, decode--> magic word, SHA-256 of the rest, safetensors

All fields that are not tensors are encoded with msgpack and stored as one uint8 tensor, `facts`. The digest is needed
because safetensors detects a missing byte, but no flipped one.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import Final, TypeAlias

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
from learner.progress import LearnerProgress
from learner.quality.comparison import Anchor
from learner.rounds.plan import RoundPlan
from learner.samples import Labelled
from wire.records import Lineage, LogMark, WeightManifest

MAGIC: Final = b"LLCKPT01"
HEADER_BYTES: Final = len(MAGIC) + sha256().digest_size

FORMAT: Final = 5
"""The format of release 0.1.0, which is the oldest one that is read. The number grows with every release that has
another field, so that an older program refuses the file instead of dropping fields. The fields of each format are in
tests/learner/golden."""

FAST_HEAD: Final = "fast."
TOP: Final = "top."
"""The prefixes of the names of the fast head's sums, and of the weights of the trained blocks."""

STATE: Final = "state."
"""The prefix of the names of the statistics of inputs (`model.inputs`), such as scales. The sums depend on these."""

States: TypeAlias = Mapping[str, Mapping[str, Tensor]]
"""The statistics of inputs: the parts of tensors, by the names of tensor and part."""

MEANS: Final = "round.means"
"""The name of the class means from which the auxiliary head of the round under way started."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All parts of a learner's state that are not tensors.

    version      the published version from which the learner continues
    pending      the manifest with which this state was about to be published, if any
    epoch        the epoch of the leader that wrote the checkpoint
    origin       the encoder and settings to which the sums and the trained blocks belong. Two machines may round a few
                 of the frozen weights differently, and can still continue from each other's state.
    offsets      `topic/partition` -> the next offset to read: every record below it has had its effect
    marks        `topic/partition` -> the mark of the last record before the offset
    read_first   the offsets up to which the learner must read before it publishes, since `version` contains the records
                 below them
    commands     the operators' commands that the learner has read
    applied_seq  the sequence number of the last command whose effect is included
    adopted      the adopted encoder that replaces the encoder of the settings, if there is one
    """

    format: int = FORMAT
    epoch: int = 0
    version: int
    last_version: int
    pending: WeightManifest | None
    offsets: dict[str, int]
    classes: list[str]
    counts: dict[str, int]
    progress: LearnerProgress
    num_scored: int
    num_correct: int
    recent: list[bool]
    temperature: float
    join: JoinState
    replay: ReplayState[Labelled]
    holdout: ReplayState[Labelled]
    round_plan: RoundPlan | None
    since_round: ReplayState[Labelled] | None = None
    lineage: Lineage = Lineage()
    anchor: Anchor | None = None
    trust: TrustState | None = None
    letters: LettersState = LettersState()
    support: ClassesState = ClassesState()
    marks: dict[str, LogMark] = {}
    drift: DriftState = DriftState()
    concept_changes: ConceptChangesState = ConceptChangesState()
    read_first: dict[str, int] = {}
    commands: CommandsState = CommandsState()
    applied_seq: int = 0
    origin: Origin
    adopted: Adopted | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The state of a learner: facts, and tensors by name."""

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
        """Makes a snapshot.

        - `facts`: all parts of the state that are not tensors.
        - `sums`: the sums of the fast head.
        - `top`: the weights of the trained blocks.
        - `means_CD`: the class means at the start of the slow round under way, if there is one.
        - `states`: the statistics of inputs, such as scales of numbers.
        """
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
        """The statistics of inputs, such as scales of numbers: the parts of each tensor, by the tensor's name."""
        states: dict[str, dict[str, Tensor]] = {}
        for name, value in self._named(STATE).items():
            tensor, _, part = name.rpartition(".")
            states.setdefault(tensor, {})[part] = value
        return states

    @property
    def top(self) -> dict[str, Tensor]:
        """The weights of the encoder's blocks that were ever trained, by name."""
        return self._named(TOP)

    @property
    def progress(self) -> LearnerProgress:
        """A copy of the learner's progress."""
        return copy(self.facts.progress)

    def _named(self, prefix: str) -> dict[str, Tensor]:
        """Returns the tensors whose names begin with `prefix`, by their names without the prefix."""
        return {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}


def encode(snapshot: Snapshot) -> bytes:
    """Encodes a snapshot as the bytes of a checkpoint file."""
    facts = bytearray(msgspec.msgpack.encode(snapshot.facts))
    body: bytes = save(snapshot.tensors | {"facts": torch.frombuffer(facts, dtype=torch.uint8)})
    return b"".join((MAGIC, sha256(body).digest(), body))


def decode(data: bytes) -> Snapshot:
    """Decodes the snapshot in a checkpoint file.

    Raises CheckpointRefused if any byte has changed, and CheckpointUnknown if this release cannot read the format.
    """
    body = memoryview(data)[HEADER_BYTES:]
    if data[: len(MAGIC)] != MAGIC:
        raise CheckpointRefused(f"not a checkpoint: it begins with {data[: len(MAGIC)]!r}")
    if sha256(body).digest() != data[len(MAGIC) : HEADER_BYTES]:
        raise CheckpointRefused(f"its {len(data)} bytes are not the bytes that were written")
    try:
        tensors = load(bytes(body))
        facts = _decode_facts(tensors.pop("facts").numpy().tobytes())
        return Snapshot(facts=facts, tensors=tensors)
    except (SafetensorError, KeyError, msgspec.DecodeError) as error:
        raise CheckpointUnknown(f"written by another version of this program: {error}") from error


class _Head(msgspec.Struct):
    """The part that is decoded before the rest, so that another format is refused by its number."""

    format: int = 1


def _decode_facts(data: bytes) -> Facts:
    head = msgspec.msgpack.decode(data, type=_Head)
    if head.format > FORMAT:
        raise CheckpointUnknown(f"written by a newer program: format {head.format}; this one reads up to {FORMAT}")
    if head.format < FORMAT:
        raise CheckpointUnknown(f"format {head.format} is of a program from before release 0.1.0")
    return msgspec.msgpack.decode(data, type=Facts)
