"""Checkpoints: everything the learner knows, offsets included, in one file that is whole or refused.

    Snapshot -> temporary file -> fsync -> rename -> fsync of the folder        newest() -> the newest whole one

Weights, sums, memory, windows, counters and offsets are one file, so what was learnt and what was read can never
disagree: a restart seeks to the offsets inside, and each label has its effect once. The file is a magic word, the
SHA-256 of the rest, and safetensors bytes; what is no tensor is one uint8 tensor of msgpack, `facts`. safetensors
alone notices a missing byte, but no flipped one.

A file is named after its sequence number and the version that it was published as (0: none). Kept are the newest few,
and those of versions that the rollout may return to.

Rejected: one file per part (a kill between two of them mixes two states), and a journal (replaying it needs the
encoder of that time).
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from learner.anchor import Anchor
from learner.drift import DriftState
from learner.erased import ErasedState
from learner.errors import CheckpointFailed, CheckpointRefused
from learner.failpoints import failpoint
from learner.guard import GuardState
from learner.join import JoinState
from learner.replay import Labelled, ReplayState
from wire.records import Lineage, WeightManifest

MAGIC: Final = b"LLCKPT01"
HEADER_BYTES: Final = len(MAGIC) + sha256().digest_size

MEANS: Final = "round.means"
"""Name of the tensor from which the auxiliary head of the round under way started."""

_NAME = re.compile(r"(\d{9})-v(\d+)\.checkpoint")


class StepPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What one gradient step trains on: new samples, and each draw from the memory that the strategy asked for.

    In a round on texts without a label, these are the new samples, and their labels are "".
    """

    fresh: list[Labelled]
    draws: list[list[Labelled]]

    @property
    def samples(self) -> list[Labelled]:
        return [sample for part in (self.fresh, *self.draws) for sample in part]


class RoundPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a slow round trains on, drawn when it started. The round is a pure function of it and of the encoder."""

    number: int
    steps: list[StepPlan]

    @property
    def labels(self) -> list[str]:
        """The classes it trains on, one row each in the auxiliary head."""
        return sorted({sample.label for step in self.steps for sample in step.samples} - {""})

    @property
    def unlabelled(self) -> list[str]:
        """The texts whose labels the round has to guess, each once."""
        return list(dict.fromkeys(sample.text for step in self.steps for sample in step.fresh if not sample.label))


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that is no tensor. `version` is the one trained from, `pending` the one that this state was published as.

    `source` says what the frozen weights were made of: two machines may round a few of them differently, and can still
    go on from each other's state. `offsets` maps `topic/partition` to the next offset to read: every record below it
    had its effect.
    """

    model_spec: str
    version: int
    last_version: int
    pending: WeightManifest | None
    source: str
    offsets: dict[str, int]
    classes: list[str]
    counts: dict[str, int]
    num_scored: int
    num_correct: int
    recent: list[bool]
    temperature: float
    join: JoinState
    replay: ReplayState[Labelled]
    held_back: ReplayState[Labelled]
    round_plan: RoundPlan | None
    since_round: ReplayState[Labelled] | None = None
    lineage: Lineage = Lineage(gap="the program that kept it before had no lineage")
    anchor: Anchor | None = None
    erased: ErasedState = ErasedState()
    guard: GuardState | None = None
    drift: DriftState = DriftState()

    def check(self, *, model_spec: str, source: str) -> None:
        """Raises CheckpointRefused for facts about another model."""
        if self.model_spec != model_spec:
            raise CheckpointRefused(f"of model {self.model_spec[:12]}, not {model_spec[:12]}")
        if self.source != source:
            raise CheckpointRefused("of another encoder or seed")


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The state of a learner: `facts`, and tensors by name."""

    facts: Facts
    tensors: dict[str, Tensor]

    def named(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `prefix`, without it."""
        return {name.removeprefix(prefix): it for name, it in self.tensors.items() if name.startswith(prefix)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A checkpoint in the folder."""

    path: Path
    sequence: int
    version: int


class Checkpoints:
    """The checkpoints in one folder, which one learner at a time writes."""

    def __init__(self, folder: Path, *, num_newest: int) -> None:
        self._folder, self._num_newest = folder, num_newest
        folder.mkdir(parents=True, exist_ok=True)
        self.refused: list[str] = []
        """Files that were refused, with the reason."""

    def write(self, snapshot: Snapshot) -> Path:
        """Put a snapshot on disk; returns when it would survive a power cut. Raises CheckpointFailed."""
        entries = self.entries()
        pending = snapshot.facts.pending
        name = f"{entries[0].sequence + 1 if entries else 1:09d}-v{pending.version if pending else 0}.checkpoint"
        try:
            return write_whole(self._folder / name, encode(snapshot))
        except OSError as error:
            raise CheckpointFailed(f"{self._folder / name}: {error}") from error

    def newest(self) -> Snapshot | None:
        """The newest checkpoint that is whole; torn ones are passed over and noted in `refused`."""
        return self._first(self.entries())

    def of_version(self, version: int) -> Snapshot | None:
        """The state that was published as `version`, if it is still kept."""
        return self._first(entry for entry in self.entries() if entry.version == version)

    def prune(self, versions: Iterable[int], *, since: int = 0) -> None:
        """Remove all but the newest few and that of each of `versions`; also what a kill left half written.

        What is older than the checkpoint of version `since` is not among the newest few.
        """
        entries, wanted = self.entries(), set(versions) - {0}
        first = min((entry.sequence for entry in entries if entry.version == since > 0), default=0)
        kept = {entry.path for entry in entries[: self._num_newest] if entry.sequence >= first}
        kept |= {entry.path for entry in reversed(entries) if entry.version in wanted}
        for path in self._folder.iterdir():
            is_ours = path.suffix == ".temporary" or _NAME.fullmatch(path.name) is not None
            if is_ours and path not in kept:
                path.unlink(missing_ok=True)

    def entries(self) -> list[Entry]:
        """What is in the folder, newest first."""
        matches = ((path, _NAME.fullmatch(path.name)) for path in self._folder.iterdir())
        found = [Entry(path=path, sequence=int(name[1]), version=int(name[2])) for path, name in matches if name]
        return sorted(found, key=lambda entry: -entry.sequence)

    def _first(self, entries: Iterable[Entry]) -> Snapshot | None:
        for entry in entries:
            try:
                return decode(entry.path.read_bytes())
            except CheckpointRefused as error:
                self.refused.append(f"{entry.path.name}: {error}")
        return None


def encode(snapshot: Snapshot) -> bytes:
    """The bytes of a checkpoint file."""
    facts = bytearray(msgspec.msgpack.encode(snapshot.facts))
    body: bytes = save(snapshot.tensors | {"facts": torch.frombuffer(facts, dtype=torch.uint8)})
    return b"".join((MAGIC, sha256(body).digest(), body))


def decode(data: bytes) -> Snapshot:
    """The snapshot in a checkpoint file. Raises CheckpointRefused unless every byte is what was written."""
    body = memoryview(data)[HEADER_BYTES:]
    if data[: len(MAGIC)] != MAGIC:
        raise CheckpointRefused("no checkpoint of this format")
    if sha256(body).digest() != data[len(MAGIC) : HEADER_BYTES]:
        raise CheckpointRefused(f"{len(data)} bytes that are not what was written")
    try:
        tensors = load(bytes(body))
        facts = msgspec.msgpack.decode(tensors.pop("facts").numpy().tobytes(), type=Facts)
    except (SafetensorError, KeyError, msgspec.DecodeError) as error:
        raise CheckpointRefused(f"written by another version of this program: {error}") from error
    return Snapshot(facts=facts, tensors=tensors)


def write_whole(path: Path, data: bytes) -> Path:
    """Write `path` so that after a kill or a power cut it is there whole or not at all. Raises OSError."""
    temporary = path.with_suffix(".temporary")
    half = len(data) // 2
    try:
        with temporary.open("wb") as file:
            file.write(data[:half])
            failpoint("in-checkpoint")
            file.write(data[half:])
            file.flush()
            os.fsync(file.fileno())
        failpoint("before-rename")
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return path
