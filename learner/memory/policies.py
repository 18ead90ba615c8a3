"""The replay policies: which group a sample belongs to, and how many places of the memory a group has.

reservoir            no groups: every sample seen is equally likely to be held
class-balanced       a group for each label: every class has the same number of places
experience-balanced  a group for each experience: every part of the stream has the same number of places
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np

from learner.config import ReplayPolicy

AnyItem = TypeVar("AnyItem")


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


GROUP_OF: Mapping[ReplayPolicy, Callable[[Rememberable], str]] = {
    "reservoir": lambda sample: "",
    "class-balanced": lambda sample: str(sample.label),
    "experience-balanced": lambda sample: str(sample.experience),
}


def quotas(capacity: int, groups: Iterable[str]) -> dict[str, int]:
    """Returns the places of each group: equal shares, and the remainder one each to the first groups by name.

    So a new group takes places from others and gives none.

    >>> quotas(8, ["c", "b", "a"])
    {'a': 3, 'b': 3, 'c': 2}
    """
    ordered = sorted(groups)
    share, left = divmod(capacity, max(len(ordered), 1))
    return {group: share + (place < left) for place, group in enumerate(ordered)}


def draw(groups: Sequence[Sequence[AnyItem]], num_samples: int, rng: np.random.Generator) -> list[AnyItem]:
    """Draws `num_samples` samples with replacement: each group is equally likely, and each sample within it.

    Returns [] where there are no groups.
    """
    if not groups:
        return []
    picks = rng.integers(len(groups), size=num_samples).tolist()
    places = rng.random(num_samples).tolist()
    return [groups[pick][int(place * len(groups[pick]))] for pick, place in zip(picks, places, strict=True)]
