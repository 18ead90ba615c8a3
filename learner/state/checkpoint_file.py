"""The name of a checkpoint: its sequence number, the epoch of the leader that wrote it, and its version. Pure."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(r"(?P<sequence>\d{9})(-e(?P<epoch>\d+))?-v(?P<version>\d+)\.checkpoint")
"""Files without an epoch were written before there was one in the name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointFile:
    """A checkpoint in the folder, by its name."""

    path: Path
    sequence: int
    epoch: int
    version: int

    @property
    def order(self) -> tuple[int, int]:
        """The newer one of two checkpoints has the greater value."""
        return self.epoch, self.sequence


def named(paths: Iterable[Path]) -> Iterator[CheckpointFile]:
    """Yields those of the paths that have the name of a checkpoint."""
    for path in paths:
        if name := _NAME.fullmatch(path.name):
            epoch = int(name["epoch"] or 0)
            yield CheckpointFile(path=path, sequence=int(name["sequence"]), epoch=epoch, version=int(name["version"]))


def newest_first(paths: Iterable[Path]) -> list[CheckpointFile]:
    """Returns those of the paths that have the name of a checkpoint, newest first."""
    return sorted(named(paths), key=lambda entry: entry.order, reverse=True)
