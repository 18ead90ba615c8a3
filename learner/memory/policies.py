"""The replay policies: which group a sample belongs to, and how many places of the memory a group has.

reservoir            no groups: every sample seen is equally likely to be held
class-balanced       a group for each label: every class has the same number of places; a set of labels is in the group
                     of one of them
experience-balanced  a group for each experience: every part of the stream has the same number of places
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol, TypeVar

import numpy as np

from learner.config import ReplayPolicy
from learner.memory.targets import group_name

AnyItem = TypeVar("AnyItem")

MIN_OF_CLASS: Final = 5
"""Samples of a class, on the average, that a memory which has dropped some needs to be trained on. With 3 of each of
CLINC150's classes, rounds gain nothing in the end, and twice as much is forgotten."""


class Rememberable(Protocol):
    """What a memory requires of a sample. `subject` is the person that it is about, for `erase`; "" for nobody.

    `experience` is the number of the part of the stream that it came in; the word is Avalanche's.
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
    """The places of each group: equal shares of `capacity`, and the remainder one each to the first groups by name.

    So a new group takes places from others and gives none.

    >>> places = Quotas(8, ["c", "b"])
    >>> places.add("a"), [places.of(group) for group in ("a", "b", "c", "d")]
    (['a', 'b', 'c'], [3, 3, 2, 0])
    """

    def __init__(self, capacity: int, groups: Iterable[str] = ()) -> None:
        self._capacity = capacity
        self._ordered = sorted(groups)
        self._divide()

    def of(self, group: str) -> int:
        """Returns the places of a group; 0 for one that is not known."""
        place = bisect_left(self._ordered, group)
        is_known = self._ordered[place : place + 1] == [group]
        return self._share + (place < self._left) if is_known else 0

    def add(self, group: str) -> list[str]:
        """Adds a group that is not known; returns those that may have fewer places now, in their order."""
        share = self._share
        left = self._left
        insort(self._ordered, group)
        self._divide()
        is_share_kept = self._share == share  # then the remainder alone has moved on, by name
        return self._ordered[self._left : left + 1] if is_share_kept else list(self._ordered)

    def _divide(self) -> None:
        self._share, self._left = divmod(self._capacity, max(len(self._ordered), 1))


def draw(groups: Sequence[Sequence[AnyItem]], num_samples: int, rng: np.random.Generator) -> list[AnyItem]:
    """Draws `num_samples` samples with replacement: each group is equally likely, and each sample within it.

    Returns [] where there are no groups.
    """
    if not groups:
        return []
    picks = rng.integers(len(groups), size=num_samples).tolist()
    places = rng.random(num_samples).tolist()
    return [groups[pick][int(place * len(groups[pick]))] for pick, place in zip(picks, places, strict=True)]


def num_trainable(num_held: int, num_learnt: int, num_classes: int) -> int:
    """Returns how many samples of a memory slow rounds may train on: none where it dropped some and holds too few.

    >>> num_trainable(40, 40, 20), num_trainable(40, 90, 20), num_trainable(100, 900, 20)
    (40, 0, 100)
    """
    is_enough = num_held >= min(num_learnt, MIN_OF_CLASS * num_classes)
    return num_held if is_enough else 0
