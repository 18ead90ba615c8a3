"""Remembers how a peer ran a batch fastest, so that a later call need not search again.

    machine, libraries, shape of the batch --> EncodeSettings, in build/bench/peers/choices/<peer>-<threads>.json

What is remembered is timed in every race like everything else; only the search for it is spared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.machine import PEERS, machine, versions
from wire.files import atomic_write


@dataclass(frozen=True, slots=True)
class EncodeSettings:
    """How a peer runs a batch: a variant by its name, on so many lanes, so many texts at once (0: all of them)."""

    variant: str
    lanes: int = 1
    size: int = 0
    is_shape_fixed: bool = False

    def __str__(self) -> str:
        words = [self.variant]
        words += [f"in {self.size}s"] if self.size else []
        words += ["shape fixed"] if self.is_shape_fixed else []
        words += [f"{self.lanes} lanes"] if self.lanes > 1 else []
        return ", ".join(words)


class Choices:
    """The settings of one peer, in a file that no other process writes. Verbs: find, store."""

    def __init__(self, path: Path) -> None:
        self._path = path
        found = versions(PEERS)
        libraries = " ".join(f"{name} {found[name]}" for name in ("torch", *PEERS))
        self._where = f"{machine()}; {libraries}"

    def find(self, token_ids: Sequence[Sequence[int]]) -> EncodeSettings | None:
        """Returns the fastest settings for batches like this one, on this machine and with these libraries."""
        return self._entries().get(self._key(token_ids))

    def store(self, token_ids: Sequence[Sequence[int]], settings: EncodeSettings) -> None:
        entries = self._entries() | {self._key(token_ids): settings}
        with atomic_write(self._path) as file:
            file.write(msgspec.json.format(msgspec.json.encode(entries)))

    def _key(self, token_ids: Sequence[Sequence[int]]) -> str:
        lengths = sorted(map(len, token_ids))
        return f"{len(lengths)} texts, {sum(lengths)} tokens, {lengths[0]} to {lengths[-1]}; {self._where}"

    def _entries(self) -> dict[str, EncodeSettings]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, EncodeSettings])
        except (OSError, msgspec.DecodeError):  # none yet, or of another release
            return {}
