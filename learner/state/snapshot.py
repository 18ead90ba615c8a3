"""The whole state of a learner as one value, and the bytes of this value in a checkpoint file.

    Snapshot(facts, tensors) <--encode, decode--> magic word, SHA-256 of the rest, safetensors

All fields that are no tensors are encoded with msgpack and stored as one uint8 tensor, `facts`. The digest is needed
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
"""The prefix of the names of the parts of the input codecs' tensors (`model.inputs`), which the sums depend on."""

States: TypeAlias = Mapping[str, Mapping[str, Tensor]]
"""The parts of the input codecs' tensors, by the names of tensor and part."""

MEANS: Final = "round.means"
"""The name of the class means from which the auxiliary head of the round under way started."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All fields of the state that are no tensors.

    version      the published version that the learner continues from
    pending      the version as which this state was about to be published
    epoch        the epoch of the leader that wrote the checkpoint
    origin       the encoder and settings that the sums and the trained blocks belong to. Two machines may round a few
                 of the frozen weights differently, and can still continue from each other's state.
    offsets      `topic/partition` -> the next offset to read: every record below it had its effect
    marks        `topic/partition` -> the mark of its log before the offset
    read_first   offsets below which nothing is published: `version` knows those records
    commands     the operators' commands that the learner holds
    applied_seq  the number of the last command whose effect is included
    adopted      the adopted encoder that replaced the encoder of the settings, if there is one
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
        """Makes a snapshot of facts, the fast head's sums, the trained blocks, the round's means, and the tensors of
        input codecs."""
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
        """The parts of the input codecs' tensors, by name."""
        found: dict[str, dict[str, Tensor]] = {}
        for name, value in self._named(STATE).items():
            tensor, _, part = name.rpartition(".")
            found.setdefault(tensor, {})[part] = value
        return found

    @property
    def top(self) -> dict[str, Tensor]:
        """The weights, by name, of the blocks that have been trained at least once."""
        return self._named(TOP)

    @property
    def progress(self) -> LearnerProgress:
        """A copy of the learner's progress."""
        return copy(self.facts.progress)

    def _named(self, prefix: str) -> dict[str, Tensor]:
        """Returns the tensors whose names begin with `prefix`, by the rest of their names."""
        return {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}


def encode(snapshot: Snapshot) -> bytes:
    """Returns the bytes of a checkpoint file."""
    facts = bytearray(msgspec.msgpack.encode(snapshot.facts))
    body: bytes = save(snapshot.tensors | {"facts": torch.frombuffer(facts, dtype=torch.uint8)})
    return b"".join((MAGIC, sha256(body).digest(), body))


def decode(data: bytes) -> Snapshot:
    """Returns the snapshot in a checkpoint file.

    Raises CheckpointRefused unless every byte is as it was written, CheckpointUnknown if another program wrote it.
    """
    body = memoryview(data)[HEADER_BYTES:]
    if data[: len(MAGIC)] != MAGIC:
        raise CheckpointRefused(f"no checkpoint: it begins with {data[: len(MAGIC)]!r}")
    if sha256(body).digest() != data[len(MAGIC) : HEADER_BYTES]:
        raise CheckpointRefused(f"{len(data)} bytes that are not what was written")
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
