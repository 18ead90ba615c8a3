"""The replay memory: texts with their labels, the same number of every class, uniform within a class.

    add(samples) -> per class: keep the samples with the highest random keys -> draw(n): class first, then sample

Every sample gets a random key once; a class keeps its `quota` highest keys. That is reservoir sampling which survives
a shrinking quota: whichever of its samples a class still holds, each one it ever saw was equally likely (Avalanche's
`ClassBalancedBuffer` does the same; tests compare them). The quota is `capacity // classes`, the rest one each to the
first classes. The byte bound takes from the class that holds most bytes. Each class remembers the highest key that
it ever dropped (`floor`): a later sample below it would get a place that an earlier one was denied.

Rejected: a ring of the newest (forgets what the stream stopped showing), and herding (needs features, which change).
"""

import heapq
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from learner.dice import dice_from, dice_state


class Kept(NamedTuple):
    """A sample in the memory; heaps order by key."""

    key: float
    text: str


class Labelled(NamedTuple):
    """A text and its label, as learnt from."""

    text: str
    label: str


class ReplayState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a `Replay` knows, heaps in heap order, so that the next draw is the same."""

    classes: dict[str, list[tuple[float, str]]]
    floors: dict[str, float]
    num_seen: dict[str, int]
    dice: str


class Replay:
    """A class-balanced reservoir, bounded in samples and in bytes of text."""

    def __init__(self, capacity: int, budget_bytes: int, *, seed: int, state: ReplayState | None = None) -> None:
        self._capacity, self._budget_bytes = capacity, budget_bytes
        self._dice = dice_from(state.dice) if state else np.random.default_rng(seed)
        kept = state.classes if state else {}
        self._heaps = {label: [Kept(*pair) for pair in pairs] for label, pairs in kept.items()}
        self._floors = dict(state.floors) if state else {}
        self.num_seen = dict(state.num_seen) if state else {}
        self._bytes = {label: sum(len(kept.text.encode()) for kept in heap) for label, heap in self._heaps.items()}

    def add(self, samples: Iterable[Labelled]) -> None:
        """Offer samples; which ones stay is chance, and the bounds hold afterwards."""
        for text, label in samples:
            is_new = label not in self._heaps
            self._offer(text, label)
            if is_new:
                self._trim_all()

    def draw(self, num_samples: int) -> list[Labelled]:
        """`num_samples` samples with replacement: each class equally likely, then each of its samples."""
        labels = [label for label, heap in self._heaps.items() if heap]
        if not labels:
            return []
        picks = [labels[i] for i in self._dice.integers(len(labels), size=num_samples)]
        places = self._dice.random(num_samples)
        return [
            Labelled(self._heaps[label][int(place * len(self._heaps[label]))].text, label)
            for label, place in zip(picks, places, strict=True)
        ]

    def samples(self) -> list[Labelled]:
        """Everything that is held, class by class."""
        return [Labelled(kept.text, label) for label, heap in self._heaps.items() for kept in heap]

    def some(self, num_samples: int) -> list[Labelled]:
        """Those with the highest keys: of every class about as many, and mostly the same ones from call to call."""
        held = [(kept.key, kept.text, label) for label, heap in self._heaps.items() for kept in heap]
        return [Labelled(text, label) for _, text, label in heapq.nlargest(num_samples, held)]

    def export(self) -> ReplayState:
        return ReplayState(
            classes={label: [(kept.key, kept.text) for kept in heap] for label, heap in self._heaps.items()},
            floors=dict(self._floors),
            num_seen=dict(self.num_seen),
            dice=dice_state(self._dice),
        )

    def __len__(self) -> int:
        return sum(len(heap) for heap in self._heaps.values())

    @property
    def num_bytes(self) -> int:
        return sum(self._bytes.values())

    def _offer(self, text: str, label: str) -> None:
        key = float(self._dice.random())
        heap = self._heaps.setdefault(label, [])
        self.num_seen[label] = self.num_seen.get(label, 0) + 1
        if key <= self._floors.get(label, -1.0):
            return
        heapq.heappush(heap, Kept(key, text))
        self._bytes[label] = self._bytes.get(label, 0) + len(text.encode())
        if len(heap) > self._quota(label):
            self._drop(label)
        while self.num_bytes > self._budget_bytes:
            self._drop(max(self._bytes, key=self._bytes.__getitem__))

    def _quota(self, label: str) -> int:
        return quotas(self._capacity, list(self._heaps))[label]

    def _trim_all(self) -> None:
        for label, quota in quotas(self._capacity, list(self._heaps)).items():
            while len(self._heaps[label]) > quota:
                self._drop(label)

    def _drop(self, label: str) -> None:
        key, text = heapq.heappop(self._heaps[label])
        self._floors[label] = key
        self._bytes[label] -= len(text.encode())


def quotas(capacity: int, labels: Sequence[str]) -> dict[str, int]:
    """Places per class: equal shares, and what is left one each to the first classes.

    >>> quotas(8, ["a", "b", "c"])
    {'a': 3, 'b': 3, 'c': 2}
    """
    share, left = divmod(capacity, len(labels))
    return {label: share + (i < left) for i, label in enumerate(labels)}
