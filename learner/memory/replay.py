"""The replay memory: what was learnt, as much of it as fits, to be learnt again beside what is new.

    add(samples) -> per group: keep the samples with the highest random keys -> draw(n): group first, then sample

The policies are one implementation, a reservoir for each group, and differ in what a sample's group is:

    reservoir            none: everything seen is equally likely to be held
    class-balanced       its label: every class has as many places
    experience-balanced  its stage: every stage of the stream has as many places

Every sample has a random key, uniform in [0, 1); a group keeps its `quota` highest keys. That is reservoir sampling
which survives a shrinking quota: whichever of its samples a group still holds, each one it ever saw was equally likely
(Avalanche's buffers do the same; tests compare them). The quota is `capacity // groups`, the rest one each to the first
groups by name. The byte bound takes from the group that holds most bytes. Each group remembers the highest key that it
ever dropped (its floor): a later sample below it would get a place that an earlier one was denied.

The key of a labelled text is a hash of the event that it came from (`hashed`), so what is held depends on which samples
were offered and not on their order: two learners that read the same topics, whose partitions have no common order, hold
the same. Where the byte bound drops samples, the order counts.

Rejected: keys from a generator (the order decides, and its state has to be kept), a ring of the newest (forgets what
the stream stopped showing), and herding (needs features, which change).
"""

import heapq
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

import mmh3
import msgspec
import numpy as np

from learner.config import ReplayPolicy


class Rememberable(Protocol):
    """What a memory asks of a sample. `subject`: whom it is about, for `erase`; "" where nobody."""

    @property
    def label(self) -> str | int: ...
    @property
    def stage(self) -> int: ...
    @property
    def subject(self) -> str: ...
    @property
    def num_bytes(self) -> int: ...


T = TypeVar("T", bound=Rememberable)

GROUP_OF: Mapping[ReplayPolicy, Callable[[Rememberable], str]] = {
    "reservoir": lambda sample: "",
    "class-balanced": lambda sample: str(sample.label),
    "experience-balanced": lambda sample: str(sample.stage),
}


class Labelled(NamedTuple):
    """A text and its label, as learnt from; "" where nobody said it, which no memory holds. `stage` counts the slow
    rounds that had begun when it came. `event` is the hash of the event that it came from (0: of none).
    """

    text: str
    label: str
    subject: str = ""
    stage: int = 0
    event: int = 0

    @property
    def num_bytes(self) -> int:
        return len(self.text.encode()) + len(self.subject.encode())


def hashed(seed: int) -> Callable[[Labelled], float]:
    """Keys for a memory of labelled texts: another order for every seed, the same for an event wherever it is read.

    >>> 0.0 <= hashed(1)(Labelled("where is it", "lost_card", event=7)) < 1.0
    True
    """

    def key_of(sample: Labelled) -> float:
        identity = f"{seed} {sample.event} {len(sample.label)} {sample.label}{sample.text}"
        return (mmh3.hash64(identity.encode(), signed=False)[0] >> 11) * 2.0**-53

    return key_of


def with_names(samples: Iterable[Labelled], known: Iterable[str]) -> list[Labelled]:
    """The samples; the first of each class that is not `known` follows the name of its class, as a sample of it.

    So the order depends on that of the samples alone, however they are batched.

    >>> [sample.text for sample in with_names([Labelled("where is it", "lost_card")], known=())]
    ['lost card', 'where is it']
    """
    seen = set(known)
    named = list[Labelled]()
    for sample in samples:
        if sample.label not in seen:
            seen.add(sample.label)
            words = re.sub(r"[\W_]+", " ", sample.label).strip()
            named.append(Labelled(words or sample.label, sample.label, stage=sample.stage))
        named.append(sample)
    return named


class ReplayState(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """Everything a `Replay` knows: heaps of (key, sample) in heap order."""

    policy: ReplayPolicy
    groups: dict[str, list[tuple[float, T]]]
    floors: dict[str, float]


class Replay(Generic[T]):
    """A reservoir for each group of samples, bounded in samples, groups and bytes. `key_of` gives a sample its key.

    A state of another policy is regrouped: its samples stay, as many as then have a place, and its floors do not.
    """

    def __init__(
        self,
        capacity: int,
        budget_bytes: int,
        *,
        key_of: Callable[[T], float],
        policy: ReplayPolicy = "class-balanced",
        state: ReplayState[T] | None = None,
    ) -> None:
        self._capacity = capacity
        self._budget_bytes = budget_bytes
        self._key_of = key_of
        self._policy = policy
        self._group_of = GROUP_OF[policy]
        self._heaps: dict[str, list[tuple[float, T]]] = {}
        self._floors: dict[str, float] = {}
        self._bytes: dict[str, int] = {}
        self._quotas: dict[str, int] = {}
        if state:
            self._restore(state)

    def add(self, samples: Iterable[T]) -> list[T]:
        """Offer samples; returns those, new and old, that have no place. The bounds hold afterwards."""
        return [gone for sample in samples for gone in self._offer(self._key_of(sample), sample)]

    def groups(self, *, is_ordered: bool = True) -> list[list[T]]:
        """What is held, by group. Ordered by the names of groups and by key, it does not tell when a sample came."""
        if not is_ordered:
            return [[sample for _, sample in heap] for heap in self._heaps.values() if heap]
        return [[sample for _, sample in sorted(heap)] for _, heap in sorted(self._heaps.items()) if heap]

    def samples(self) -> list[T]:
        """Everything that is held, in the order of `groups`."""
        return [sample for group in self.groups() for sample in group]

    def some(self, num_samples: int) -> list[T]:
        """Those with the highest keys: of every group about as many, and mostly the same ones from call to call."""
        held = [pair for heap in self._heaps.values() for pair in heap]
        return [sample for _, sample in heapq.nlargest(num_samples, held, key=_key)]

    def erase(self, subject: str) -> int:
        """Remove every sample about `subject`; returns how many there were. Others come to their places by chance."""
        if not subject:
            raise ValueError("no subject: samples without one cannot be told from each other")
        num_before = len(self)
        self._keep(lambda sample: sample.subject != subject)
        return num_before - len(self)

    def of(self, label: str) -> list[T]:
        """What is held of a class."""
        if self._policy == "class-balanced":
            return [sample for _, sample in self._heaps.get(label, ())]
        return [sample for sample in self.samples() if sample.label == label]

    def erase_class(self, label: str) -> None:
        """Remove every sample of a class, and what was known of it. Others come to their places by chance."""
        if self._policy == "class-balanced":
            for by_group in (self._heaps, self._floors, self._bytes):
                by_group.pop(label, None)
            self._quotas = quotas(self._capacity, self._heaps)
        else:
            self._keep(lambda sample: sample.label != label)

    def export(self) -> ReplayState[T]:
        groups = {group: list(heap) for group, heap in self._heaps.items()}
        return ReplayState(policy=self._policy, groups=groups, floors=dict(self._floors))

    def __len__(self) -> int:
        return sum(len(heap) for heap in self._heaps.values())

    @property
    def num_bytes(self) -> int:
        return sum(self._bytes.values())

    def _keep(self, is_kept: Callable[[T], bool]) -> None:
        for group, heap in self._heaps.items():
            heap[:] = [pair for pair in heap if is_kept(pair[1])]
            heapq.heapify(heap)
            self._bytes[group] = sum(sample.num_bytes for _, sample in heap)

    def _offer(self, key: float, sample: T) -> list[T]:
        group = self._group_of(sample)
        if group not in self._heaps and len(self._heaps) < self._capacity:
            self._heaps[group] = []
            self._quotas = quotas(self._capacity, self._heaps)
        if not self._quotas.get(group) or key <= self._floors.get(group, -1.0):
            return [sample]
        heapq.heappush(self._heaps[group], (key, sample))
        self._bytes[group] = self._bytes.get(group, 0) + sample.num_bytes
        return self._trim()

    def _trim(self) -> list[T]:
        excess = {group: len(self._heaps[group]) - quota for group, quota in self._quotas.items()}
        gone = [self._drop(group) for group, num_samples in excess.items() for _ in range(num_samples)]
        while self.num_bytes > self._budget_bytes:
            gone.append(self._drop(max(self._bytes, key=lambda group: (self._bytes[group], group))))
        return gone

    def _drop(self, group: str) -> T:
        self._floors[group], sample = heapq.heappop(self._heaps[group])
        self._bytes[group] -= sample.num_bytes
        return sample

    def _restore(self, state: ReplayState[T]) -> None:
        self._heaps = {group: list(heap) for group, heap in state.groups.items()}
        self._floors = dict(state.floors)
        if state.policy != self._policy:
            self._regroup()
        self._bytes = {group: sum(sample.num_bytes for _, sample in heap) for group, heap in self._heaps.items()}
        self._quotas = quotas(self._capacity, self._heaps)
        self._trim()  # the bounds may be tighter than they were

    def _regroup(self) -> None:
        pairs = [pair for heap in self._heaps.values() for pair in heap]
        self._heaps = {}
        self._floors = {}
        for pair in pairs:
            heapq.heappush(self._heaps.setdefault(self._group_of(pair[1]), []), pair)


def _key(pair: tuple[float, Rememberable]) -> float:
    return pair[0]


def quotas(capacity: int, groups: Iterable[str]) -> dict[str, int]:
    """Places per group: equal shares, and what is left one each to the first groups by name.

    A group that is added takes places from others and gives none.

    >>> quotas(8, ["c", "b", "a"])
    {'a': 3, 'b': 3, 'c': 2}
    """
    ordered = sorted(groups)
    share, left = divmod(capacity, max(len(ordered), 1))
    return {group: share + (place < left) for place, group in enumerate(ordered)}


def draw(groups: Sequence[Sequence[T]], num_samples: int, rng: np.random.Generator) -> list[T]:
    """`num_samples` samples with replacement: each group equally likely, then each of its samples. [] of nothing."""
    if not groups:
        return []
    picks = rng.integers(len(groups), size=num_samples).tolist()
    places = rng.random(num_samples).tolist()
    return [groups[i][int(place * len(groups[i]))] for i, place in zip(picks, places, strict=True)]
