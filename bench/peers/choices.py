"""Remembers how fast a peer ran a batch with each of its settings, so that a later call need not try them again.

    machine, libraries, shape of the batch --> seconds by settings, in build/bench/peers/choices/<peer>-<threads>.json

A search that came to the end of its time goes on in the next call, and so does one of a peer that has a new variant.
The settings that are fastest are timed in every race like everything else; only the search for them is spared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from services.machine import PEERS, machine, versions
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
    """What was tried of one peer, in a file that no other process writes. Verbs: tried, store."""

    def __init__(self, path: Path) -> None:
        self._path = path
        found = versions(PEERS)
        libraries = " ".join(f"{name} {found[name]}" for name in ("torch", *PEERS))
        self._where = f"{machine()}; {libraries}"

    def tried(self, token_ids: Sequence[Sequence[int]]) -> dict[str, float]:
        """Returns the seconds, by settings in words, for batches like this one, here and with these libraries."""
        return self._entries().get(self._key(token_ids), {})

    def store(self, token_ids: Sequence[Sequence[int]], tried: Mapping[str, float]) -> None:
        """Stores what `tried` returns from now on."""
        entries = self._entries() | {self._key(token_ids): dict(tried)}
        with atomic_write(self._path) as file:
            file.write(msgspec.json.format(msgspec.json.encode(entries)))

    def _key(self, token_ids: Sequence[Sequence[int]]) -> str:
        lengths = sorted(map(len, token_ids))
        return f"{len(lengths)} texts, {sum(lengths)} tokens, {lengths[0]} to {lengths[-1]}; {self._where}"

    def _entries(self) -> dict[str, dict[str, float]]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, dict[str, float]])
        except (OSError, msgspec.DecodeError):  # none yet, or of another release
            return {}
