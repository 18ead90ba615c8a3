"""The replay memory: a bounded sample of what was learnt, which is trained on again beside what is new.

    add(samples) -> per group: keep the samples with the highest random keys -> draw(n): group first, then sample

The policies share one implementation, a reservoir for each group, and differ in what a sample's group is
(`learner.memory.policies`).

Every sample has a random key, uniform in [0, 1), and a group keeps the samples with its `quota` highest keys. That is
reservoir sampling with random keys, and it survives a shrinking quota: each sample that a group ever saw was equally
likely to be among those that it still holds (Avalanche's buffers do the same; tests compare them). The quota is
`capacity // groups`, and the remainder goes one each to the first groups by name. Over the byte bound, the group that
holds most bytes drops samples. Each group remembers the highest key that it ever dropped, its floor: a later sample
below it would be kept although an earlier one with a higher key was dropped.

The key of a labelled text is a hash of the event that it came from (`hash_key`), so what is held depends on which
samples were offered and not on their order: two learners that read the same topics, whose partitions have no common
order, hold the same. Where the byte bound drops samples, the order counts.

Rejected: keys from a generator (the order decides, and its state has to be kept), a ring of the newest (forgets what
the stream stopped showing), and herding (needs features, which change).
"""

import heapq
import re
from collections.abc import Callable, Iterable
from itertools import chain
from operator import itemgetter
from typing import Generic, TypeAlias, TypeVar

import mmh3
import msgspec

from learner.config import ReplayPolicy
from learner.labels.sample import Labelled
from learner.memory.policies import GROUP_OF, Quotas, Rememberable
from wire.targets import class_names, is_set, set_of

T = TypeVar("T", bound=Rememberable)
Predicate: TypeAlias = Callable[[str], object]


def hash_key(seed: int) -> Callable[[Labelled], float]:
    """Returns a function that hashes a labelled text to its key. The order of keys differs by seed, not by replay.

    >>> 0.0 <= hash_key(1)(Labelled("where is it", "lost_card", event=7)) < 1.0
    True
    """

    def key_of(sample: Labelled) -> float:
        identity = f"{seed} {sample.event} {len(sample.label)} {sample.label}{sample.text}"
        return (mmh3.hash64(identity.encode(), signed=False)[0] >> 11) * 2.0**-53

    return key_of


def with_names(added: Iterable[Labelled], is_known: Predicate, reads: Predicate = bool) -> list[Labelled]:
    """Returns the samples; the first of each class that is not known follows the class's name, as a sample of it.

    So the order depends on that of the samples alone, however they are batched. `reads`: whether a text can be encoded.

    >>> [sample.text for sample in with_names([Labelled("where is it", "lost_card")], set().__contains__)]
    ['lost card', 'where is it']
    """
    seen = set[str]()
    named = list[Labelled]()
    for sample in added:
        new = [name for name in class_names(sample.label) if not (name in seen or is_known(name))]
        seen.update(new)
        named += [*filter(lambda each: reads(each.text), [name_sample(name, sample) for name in new]), sample]
    return named


def name_sample(name: str, like: Labelled) -> Labelled:
    """Returns the words of a class's name as a sample of it, as early as `like`, which has one class or a set."""
    words = re.sub(r"[\W_]+", " ", name).strip()
    return Labelled(words or name, set_of([name]) if is_set(like.label) else name, experience=like.experience)


class ReplayState(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """Holds everything that a `Replay` knows: heaps of (key, sample) in heap order."""

    policy: ReplayPolicy
    groups: dict[str, list[tuple[float, T]]]
    floors: dict[str, float]


class Replay(Generic[T]):
    """Holds a reservoir for each group of samples, bounded in samples, groups and bytes. `key_of` gives a sample's key.

    A state of another policy is regrouped: the samples that then have a place stay, and the floors are dropped.
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
        self._num_bytes = 0
        self._quotas = Quotas(capacity)
        if state:
            self._restore(state)

    def add(self, samples: Iterable[T]) -> list[T]:
        """Offers samples; returns those, new and old, that have no place. The bounds hold afterwards."""
        dropped: list[T] = []
        for sample in samples:
            dropped += self._offer(self._key_of(sample), sample)
        return dropped

    def groups(self, *, is_ordered: bool = True) -> list[list[T]]:
        """Returns the samples by group. Ordered by group name and by key, they do not tell when a sample came."""
        if not is_ordered:
            return [_samples_of(heap) for heap in self._heaps.values() if heap]
        return [_samples_of(sorted(heap)) for _, heap in sorted(self._heaps.items()) if heap]

    def samples(self) -> list[T]:
        """Returns all samples, in the order of `groups`."""
        return list(chain.from_iterable(self.groups()))

    def subset(self, num_samples: int) -> list[T]:
        """Returns the samples with the highest keys: about as many of every group, mostly the same in every call."""
        pairs = list(chain.from_iterable(self._heaps.values()))
        return _samples_of(heapq.nlargest(num_samples, pairs, key=itemgetter(0)))

    def erase(self, holds: Callable[[str], bool]) -> int:
        """Removes every sample whose subject `holds` names; returns how many there were. It is asked once for each."""
        subjects = {sample.subject for sample in self.samples()}
        erased = {subject for subject in subjects if subject and holds(subject)}
        return len(self.take_out(lambda sample: sample.subject in erased))

    def take_out(self, is_unwanted: Callable[[T], bool]) -> list[T]:
        """Removes and returns every unwanted sample. Later samples fill their places."""
        gone = [sample for sample in self.samples() if is_unwanted(sample)]
        if gone:
            self._filter(lambda sample: not is_unwanted(sample))
        return gone

    def of(self, label: str) -> list[T]:
        """Returns the samples of a class, where labels are single classes."""
        if self._policy == "class-balanced":
            return _samples_of(self._heaps.get(label, ()))
        return [sample for sample in self.samples() if sample.label == label]

    def erase_class(self, label: str) -> None:
        """Removes every sample of a class, and its floor and quota. Later samples fill their places."""
        if self._policy == "class-balanced":
            self._num_bytes -= self._bytes.pop(label, 0)
            for by_group in (self._heaps, self._floors):
                by_group.pop(label, None)
            self._quotas = Quotas(self._capacity, self._heaps)
        else:
            self._filter(lambda sample: sample.label != label)

    def export(self) -> ReplayState[T]:
        groups = {group: list(heap) for group, heap in self._heaps.items()}
        return ReplayState(policy=self._policy, groups=groups, floors=dict(self._floors))

    def __len__(self) -> int:
        return sum(len(heap) for heap in self._heaps.values())

    @property
    def num_bytes(self) -> int:
        return self._num_bytes

    def _filter(self, is_wanted: Callable[[T], bool]) -> None:
        for heap in self._heaps.values():
            heap[:] = [pair for pair in heap if is_wanted(pair[1])]
            heapq.heapify(heap)
        self._count_bytes()

    def _offer(self, key: float, sample: T) -> list[T]:
        group = self._group_of(sample, key)
        shrunk = [group]
        if group not in self._heaps and len(self._heaps) < self._capacity:
            self._heaps[group] = []
            shrunk = self._quotas.add(group)
        if not self._quotas.of(group) or key <= self._floors.get(group, -1.0):
            return [sample]
        heapq.heappush(self._heaps[group], (key, sample))
        self._bytes[group] = self._bytes.get(group, 0) + sample.num_bytes
        self._num_bytes += sample.num_bytes
        return self._trim(shrunk)

    def _trim(self, groups: Iterable[str]) -> list[T]:
        """Drops what is over the quota of one of `groups`, and over the byte bound; returns it."""
        dropped: list[T] = []
        for group in groups:
            while len(self._heaps[group]) > self._quotas.of(group):
                dropped.append(self._drop(group))
        while self._num_bytes > self._budget_bytes:
            dropped.append(self._drop(max(self._bytes, key=lambda group: (self._bytes[group], group))))
        return dropped

    def _drop(self, group: str) -> T:
        self._floors[group], sample = heapq.heappop(self._heaps[group])
        self._bytes[group] -= sample.num_bytes
        self._num_bytes -= sample.num_bytes
        return sample

    def _restore(self, state: ReplayState[T]) -> None:
        self._heaps = {group: list(heap) for group, heap in state.groups.items()}
        self._floors = dict(state.floors)
        if state.policy != self._policy:
            self._regroup()
        self._count_bytes()
        self._quotas = Quotas(self._capacity, self._heaps)
        self._trim(sorted(self._heaps))  # the bounds may be tighter than they were

    def _count_bytes(self) -> None:
        self._bytes = {group: _num_bytes(heap) for group, heap in self._heaps.items()}
        self._num_bytes = sum(self._bytes.values())

    def _regroup(self) -> None:
        pairs = list(chain.from_iterable(self._heaps.values()))
        self._heaps = {}
        self._floors = {}
        for key, sample in pairs:
            heapq.heappush(self._heaps.setdefault(self._group_of(sample, key), []), (key, sample))


def _num_bytes(heap: Iterable[tuple[float, Rememberable]]) -> int:
    return sum(sample.num_bytes for _, sample in heap)


def _samples_of(pairs: Iterable[tuple[float, T]]) -> list[T]:
    return [sample for _, sample in pairs]
