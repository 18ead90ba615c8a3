"""The replay buffer, whose samples slow rounds train on again, and the holdout, whose samples are only for evaluation.

    learnt samples  --Replay.add: keeps the highest random keys of each group--> replay buffer
    replay buffer   --draw: a group, then a sample of it--> slow round
    holdout samples --Holdout.add: keeps samples in the same way--> holdout
    holdout         --all samples, best precision--> z --head--> accuracy, compared with the parent version
                    --a subset, each precision--> z --head--> accuracy of each precision

The replay buffer is a reservoir per group of samples. The policy says which group a sample belongs to:

    reservoir            one group: every sample seen is equally likely to be held
    class-balanced       a group for each label: every class gets the same number of places; a set of labels is in the
                         group of one of its labels
    experience-balanced  a group for each experience: every part of the stream gets the same number of places

Every sample has a random key, uniform in [0, 1). A group has a quota, and keeps the samples with the highest keys. This
is reservoir sampling with random keys. It stays uniform if the quota shrinks: each sample that the group ever saw is
equally likely to be kept (Avalanche's buffers do the same; tests compare them). The quota is `capacity // groups`, and
the remainder goes one each to the first groups by name. If the buffer exceeds its byte bound, the group with the most
bytes drops samples. Each group has a floor: the highest key that it ever dropped. A sample with a key below the floor
is refused, since an earlier sample with a higher key was dropped.

The key of a labelled text is a hash of its event (`hash_key`). So the contents of the buffer depend on the samples and
not on their order: two learners that read the same topics keep the same samples, although partitions have no common
order. The order matters only if the byte bound drops samples.

The holdout is balanced by class. Its vectors are cached for each encoder and precision, so a comparison of two versions
encodes no text twice. Precisions are compared on a fixed subset, because a publication has to wait for it: the accuracy
of cheaper precisions only matters to the rollout, not to the gate.

Rejected:

- Keys from a random generator: they depend on the order, and the generator's state would have to be stored.
- A ring buffer of the newest samples: forgets classes that no longer occur in the stream.
- Herding: needs features, which change.
- A holdout in proportion to the class frequencies: has too few samples of rare classes.
- A holdout that is drawn from the replay buffer: the head has learnt its samples.
"""

import heapq
import re
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from itertools import chain
from operator import itemgetter
from typing import Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

import mmh3
import msgspec
import numpy as np
import torch
from torch import Tensor

from learner.config import ReplayPolicy
from learner.encoder.served import ServedEncoder
from learner.kinds import kind_tensors
from learner.samples import Labelled
from model.kinds import TargetBatch
from model.quantized import QuantizedHead
from wire.kinds import class_names, find_kind, group_name

AnyItem = TypeVar("AnyItem")

MIN_OF_CLASS: Final = 5
"""Once a replay buffer has dropped samples, it is trained on only if it has this many samples of each class on average.
With 3 samples of each class of CLINC150, rounds gain nothing in the end, and the model forgets twice as much."""


class Rememberable(Protocol):
    """The fields that a replay buffer requires of a sample.

    `subject` is the person about whom the sample is, for `erase`; "" for nobody. `experience` is the number of the part
    of the stream to which the sample belongs, in Avalanche's terms.
    """

    @property
    def label(self) -> str | int: ...
    @property
    def experience(self) -> int: ...
    @property
    def subject(self) -> str: ...
    @property
    def num_bytes(self) -> int: ...


GROUP_OF: Mapping[ReplayPolicy, Callable[[Rememberable, float], str]] = {
    "reservoir": lambda sample, key: "",
    "class-balanced": lambda sample, key: group_name(str(sample.label), str(key)),
    "experience-balanced": lambda sample, key: str(sample.experience),
}


class Quotas:
    """The quotas of the groups of a replay buffer: how many samples each group may keep.

    The quotas are equal shares of `capacity`; the remainder goes one each to the first groups by name. A new group
    shrinks the quotas of others, and no quota grows.

    >>> places = Quotas(8, ["c", "b"])
    >>> places.add("a"), [places.of(group) for group in ("a", "b", "c", "d")]
    (['a', 'b', 'c'], [3, 3, 2, 0])
    """

    def __init__(self, capacity: int, groups: Iterable[str] = ()) -> None:
        self._capacity = capacity
        self._ordered = sorted(groups)
        self._divide()

    def of(self, group: str) -> int:
        """Returns the quota of a group; 0 for an unknown group."""
        index = bisect_left(self._ordered, group)
        is_known = self._ordered[index : index + 1] == [group]
        return self._share + (index < self._remainder) if is_known else 0

    def add(self, group: str) -> list[str]:
        """Adds a new group; returns the groups whose quota may have shrunk, by name."""
        share = self._share
        remainder = self._remainder
        insort(self._ordered, group)
        self._divide()
        # If the equal share stays the same, only groups that no longer get one of the remainder shrink.
        is_share_kept = self._share == share
        return self._ordered[self._remainder : remainder + 1] if is_share_kept else list(self._ordered)

    def _divide(self) -> None:
        self._share, self._remainder = divmod(self._capacity, max(len(self._ordered), 1))


def draw(groups: Sequence[Sequence[AnyItem]], num_samples: int, rng: np.random.Generator) -> list[AnyItem]:
    """Draws `num_samples` samples with replacement: a group at random, then a sample of the group at random.

    Returns [] if there are no groups.
    """
    if not groups:
        return []
    picks = rng.integers(len(groups), size=num_samples).tolist()
    fractions = rng.random(num_samples).tolist()
    return [groups[pick][int(fraction * len(groups[pick]))] for pick, fraction in zip(picks, fractions, strict=True)]


def num_trainable(num_held: int, num_learnt: int, num_classes: int) -> int:
    """Returns how many of the `num_held` samples of a replay buffer slow rounds may train on: all or none.

    None, if the buffer has dropped samples and has too few left.

    >>> num_trainable(40, 40, 20), num_trainable(40, 90, 20), num_trainable(100, 900, 20)
    (40, 0, 100)
    """
    is_enough = num_held >= min(num_learnt, MIN_OF_CLASS * num_classes)
    return num_held if is_enough else 0


T = TypeVar("T", bound=Rememberable)
Predicate: TypeAlias = Callable[[str], object]


def hash_key(seed: int) -> Callable[[Labelled], float]:
    """Returns the function that computes the key of a labelled text, by a hash. Each seed gives another order of keys.

    >>> 0.0 <= hash_key(1)(Labelled("where is it", "lost_card", event=7)) < 1.0
    True
    """

    def key_of(sample: Labelled) -> float:
        identity = f"{seed} {sample.event} {len(sample.label)} {sample.label}{sample.text}"
        return (mmh3.hash64(identity.encode(), signed=False)[0] >> 11) * 2.0**-53

    return key_of


def with_names(added: Iterable[Labelled], is_known: Predicate, reads: Predicate = bool) -> list[Labelled]:
    """Inserts a sample with the name of the class before the first sample of each new class; returns all samples.

    - `is_known`: whether a class is known.
    - `reads`: whether the encoder can read a text.

    The result does not depend on how the samples are batched.

    >>> [sample.text for sample in with_names([Labelled("where is it", "lost_card")], set().__contains__)]
    ['lost card', 'where is it']
    """
    seen = set[str]()
    result = list[Labelled]()
    for sample in added:
        new = [name for name in class_names(sample.label) if not (name in seen or is_known(name))]
        seen.update(new)
        result += [*filter(lambda each: reads(each.text), [name_sample(name, sample) for name in new]), sample]
    return result


def name_sample(name: str, like: Labelled) -> Labelled:
    """Makes a sample of a class from the words of its name, with the experience and the kind of label of `like`."""
    words = re.sub(r"[\W_]+", " ", name).strip()
    label = find_kind(like.label).with_classes(like.label, [name])
    return Labelled(words or name, label, experience=like.experience)


class ReplayState(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """The state of a `Replay`: for each group its floor, and (key, sample) pairs in heap order."""

    policy: ReplayPolicy
    groups: dict[str, list[tuple[float, T]]]
    floors: dict[str, float]


class Replay(Generic[T]):
    """A replay buffer: a reservoir for each group of samples, bounded in samples, groups and bytes.

    `key_of` returns the key of a sample. If the state has another policy, its samples are grouped again as far as they
    fit, and the floors are dropped.
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
        """Adds samples as far as they have a place; returns the samples that were refused or dropped for them."""
        dropped: list[T] = []
        for sample in samples:
            dropped += self._offer(self._key_of(sample), sample)
        return dropped

    def groups(self, *, is_ordered: bool = True) -> list[list[T]]:
        """Returns the samples of each group. They are ordered by group name and key, not by their arrival."""
        if not is_ordered:
            return [_take_samples(heap) for heap in self._heaps.values() if heap]
        return [_take_samples(sorted(heap)) for _, heap in sorted(self._heaps.items()) if heap]

    def samples(self) -> list[T]:
        """Returns all samples, in the order of `groups`."""
        return list(chain.from_iterable(self.groups()))

    def subset(self, num_samples: int) -> list[T]:
        """Returns the samples with the highest keys: about equally many of each group, mostly the same each time."""
        pairs = list(chain.from_iterable(self._heaps.values()))
        return _take_samples(heapq.nlargest(num_samples, pairs, key=itemgetter(0)))

    def erase(self, holds: Callable[[str], bool]) -> int:
        """Removes the samples about subjects for which `holds` is true; returns their number.

        Calls `holds` once for each subject.
        """
        subjects = {sample.subject for sample in self.samples()}
        erased = {subject for subject in subjects if subject and holds(subject)}
        return len(self.take_out(lambda sample: sample.subject in erased))

    def take_out(self, is_unwanted: Callable[[T], bool]) -> list[T]:
        """Removes and returns the samples for which `is_unwanted` is true. Later samples may take their places."""
        gone = [sample for sample in self.samples() if is_unwanted(sample)]
        if gone:
            self._filter(lambda sample: not is_unwanted(sample))
        return gone

    def of(self, label: str) -> list[T]:
        """Returns the samples of a class, if labels are single classes."""
        if self._policy == "class-balanced":
            return _take_samples(self._heaps.get(label, ()))
        return [sample for sample in self.samples() if sample.label == label]

    def erase_class(self, label: str) -> None:
        """Removes all samples of a class, with its floor and quota. Later samples may take their places."""
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
        """Drops the samples over the quotas of `groups` and over the byte bound; returns them."""
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
        # The bounds may be tighter than when the state was written.
        self._trim(sorted(self._heaps))

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


def _take_samples(pairs: Iterable[tuple[float, T]]) -> list[T]:
    return [sample for _, sample in pairs]


SUBSET_SIZE = 256
"""The most holdout samples on which all precisions are measured. INT4 takes about 1 ms for each."""


MAX_FEATURES = 2_000
"""The most holdout samples whose random features are cached under an encoder."""


class CachedFeatures(NamedTuple):
    """Texts and their random features (N, R)."""

    texts: list[str]
    phi_NR: Tensor

    def only(self, texts: Set[str]) -> "CachedFeatures":
        """Returns the features of the cached texts that are in `texts`."""
        kept = [index for index, text in enumerate(self.texts) if text in texts]
        if len(kept) == len(self.texts):
            return self
        return CachedFeatures([self.texts[index] for index in kept], self.phi_NR[kept])


class Holdout:
    """The holdout: samples that are never learnt, with a cache of their vectors under each encoder in use."""

    def __init__(self, samples: Replay[Labelled]) -> None:
        self.samples = samples
        self._vectors: dict[tuple[str, str], dict[str, Tensor]] = {}
        self._features: dict[str, CachedFeatures] = {}

    def add(self, samples: Iterable[Labelled]) -> None:
        self.samples.add(samples)

    @property
    def subset(self) -> list[Labelled]:
        """The holdout samples on which every precision is measured."""
        return self.samples.subset(SUBSET_SIZE)

    def unencoded(self, encoder: ServedEncoder, precision: str) -> list[str]:
        """Returns the texts whose vectors are not cached yet, but will be needed.

        In the encoder's best precision all samples are needed, in the others only `subset`.
        """
        samples = self.samples.samples() if precision == encoder.precisions[0] else self.subset
        return self._missing(encoder, precision, samples)

    def add_vectors(self, encoder: ServedEncoder, precision: str, texts: Sequence[str], z_ND: Tensor) -> None:
        """Caches the vectors (N, D) of texts that were encoded elsewhere."""
        cached = self._vectors.setdefault((encoder.key, precision), {})
        cached |= zip(texts, z_ND, strict=True)

    def accuracy(
        self,
        encoder: ServedEncoder,
        head: QuantizedHead,
        classes: Sequence[str],
        *,
        precision: str | None = None,
        samples: Sequence[Labelled] | None = None,
    ) -> float:
        """Returns the accuracy of the head on `samples` (default: all), in [0, 1]; 0 for no samples.

        Default precision: the encoder's most accurate one.
        """
        z_ND, targets = self.vectors(encoder, classes, precision=precision, samples=samples)
        return float(targets.right(head.logits(z_ND, len(classes))).float().mean()) if len(z_ND) else 0.0

    def vectors(
        self,
        encoder: ServedEncoder,
        classes: Sequence[str],
        *,
        precision: str | None = None,
        samples: Sequence[Labelled] | None = None,
    ) -> tuple[Tensor, TargetBatch]:
        """Returns the vectors z_ND of `samples` (default: all), and their targets among `classes`."""
        samples = self.samples.samples() if samples is None else samples
        precision = encoder.precisions[0] if precision is None else precision
        self._encode(encoder, precision, self._missing(encoder, precision, samples))
        cached = self._vectors.get((encoder.key, precision), {})
        vectors = [cached[sample.text] for sample in samples]
        z_ND = torch.stack(vectors) if vectors else torch.empty(0, encoder.config.d_model)
        return z_ND, build_targets(samples, classes)

    def features(self, encoder: ServedEncoder, classes: Sequence[str]) -> tuple[Tensor, TargetBatch]:
        """Returns the random features phi_NR of all samples, and their targets among `classes`.

        The features of at most MAX_FEATURES samples are cached, 8 KB each at R = 2048. The caller must not change them.
        """
        samples = self.samples.samples()
        texts = [sample.text for sample in samples]
        cached = self._features.get(encoder.key)
        if cached is None or cached.texts != texts:
            cached = self._with_features(encoder, samples, texts, cached or CachedFeatures([], torch.empty(0, 0)))
            if len(texts) <= MAX_FEATURES:
                self._features[encoder.key] = cached
        return cached.phi_NR, build_targets(samples, classes)

    def keep(self, encoders: Iterable[str]) -> None:
        """Drops the cached vectors and features of other encoders, and of samples that are gone."""
        keys = set(encoders)
        texts = {sample.text for sample in self.samples.samples()}
        self._features = {key: cached.only(texts) for key, cached in self._features.items() if key in keys}
        remaining: dict[tuple[str, str], dict[str, Tensor]] = {}
        for (key, precision), vectors in self._vectors.items():
            if key in keys:
                remaining[key, precision] = {text: z_D for text, z_D in vectors.items() if text in texts}
        self._vectors = remaining

    def __len__(self) -> int:
        return len(self.samples)

    def _with_features(
        self, encoder: ServedEncoder, samples: Sequence[Labelled], texts: list[str], cached: CachedFeatures
    ) -> CachedFeatures:
        """Returns the features of `samples`, whose texts are `texts`. Copies the features that are cached."""
        cached_row = {text: row for row, text in enumerate(cached.texts)}
        known = [row for row, text in enumerate(texts) if text in cached_row]
        missing = [row for row, text in enumerate(texts) if text not in cached_row]
        z_MD, _ = self.vectors(encoder, (), samples=[samples[row] for row in missing])
        phi_NR = torch.empty(len(texts), encoder.config.head_features)
        phi_NR[missing] = encoder.features(z_MD)
        if known:
            phi_NR[known] = cached.phi_NR[[cached_row[texts[row]] for row in known]]
        return CachedFeatures(texts, phi_NR)

    def _missing(self, encoder: ServedEncoder, precision: str, samples: Iterable[Labelled]) -> list[str]:
        cached = self._vectors.get((encoder.key, precision), {})
        return list(dict.fromkeys(sample.text for sample in samples if sample.text not in cached))

    def _encode(self, encoder: ServedEncoder, precision: str, texts: Sequence[str]) -> None:
        self.add_vectors(encoder, precision, texts, encoder.z_many(texts, precision))


def build_targets(samples: Sequence[Labelled], classes: Sequence[str]) -> TargetBatch:
    """Returns the targets (which classes are right) of the labels of `samples`, among `classes`."""
    labels = [sample.label for sample in samples]
    return kind_tensors(labels).targets(labels, [sample.text for sample in samples], classes)
