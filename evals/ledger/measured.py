"""Keeps what each seed measured, so that a run that was stopped goes on with the seeds that are missing.

    MeasuredSeed, once it has ended --write--> FOLDER/COMMIT/ROW-SEED.json --read--> the same MeasuredSeed

Figures belong to a commit without changes and to a machine. What ended without a result is not kept: it is tried again.

Rejected: figures of half a seed (what is shared between two bars would have to be kept, too).
"""

from pathlib import Path

import msgspec

from evals.ledger.experiment import Figure
from evals.results.conditions import Conditions
from evals.results.rows import Surroundings
from wire.files import atomic_write


class MeasuredSeed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a seed measured, and what else ran on the machine."""

    figures: tuple[Figure, ...]
    conditions: Conditions | None


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is in a file."""

    machine: str
    seed: MeasuredSeed


class MeasuredSeeds:
    """The figures that were measured at one commit. Without a folder, or with changes in the tree, nothing is kept."""

    def __init__(self, folder: Path | None, surroundings: Surroundings) -> None:
        is_kept = folder is not None and not surroundings.commit.endswith("+")
        self._folder = folder / surroundings.commit if folder and is_kept else None
        self._machine = surroundings.machine

    def read(self, experiment: str, seed: int) -> MeasuredSeed | None:
        """Returns what a seed measured; None if it was not measured here."""
        if self._folder is None:
            return None
        try:
            kept = msgspec.json.decode((self._folder / _name(experiment, seed)).read_bytes(), type=Kept)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return kept.seed if kept.machine == self._machine else None

    def write(self, experiment: str, seed: int, measured: MeasuredSeed) -> None:
        """Keeps what a seed that has ended has measured."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        kept = Kept(self._machine, measured)
        with atomic_write(self._folder / _name(experiment, seed)) as file:
            file.write(msgspec.json.encode(kept))


def _name(experiment: str, seed: int) -> str:
    return f"{experiment}-{seed}.json"
