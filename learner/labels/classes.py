"""Decides which classes have a row: all while rows are free, and once none is, the classes with the most labels.

    label of a class without a row --a row is free----------------------------> it gets the row, with its first label
                                   --a provisional class has fewer labels-----> it gets the row of the weakest one
                                   --none has---------------------------------> it gets none; its labels are counted

Whoever writes labels may name a class. A class is provisional until it has `min_labels` labels: it is served at once,
but it is evicted for a class with more labels. So a flood of names with one label each neither fills the rows for good
nor keeps out a class with two labels, and nothing evicts a class that has `min_labels`. A source that gives so many
names `min_labels` labels each does fill the rows for good; `learner.trust.source_share` slows it down.

Rejected: a row only after `min_labels` labels (that a class is known by its first label is what few-shot learning is),
a count of sources instead of labels (a label says its source itself), and a sketch of counts (count-min: in a flood,
names that share a cell come out with as many labels).
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from learner.labels.sample import Sample
from wire.recent import hash_of
from wire.targets import is_value, names_of, set_of

MAX_OTHERS: Final = 16_384
"""Number of classes without a row whose labels are counted; the least recently labelled is dropped first (LRU)."""


class ClassesState(msgspec.Struct, frozen=True, kw_only=True):
    """Holds everything that a `Classes` knows, least recently labelled first.

    `labels` counts the labels of each class with a row; `others` those of each class without one, by its hash.
    """

    labels: dict[str, int] = {}
    others: dict[int, int] = {}


def backfill(state: ClassesState, num_samples: Mapping[str, int]) -> ClassesState:
    """Returns `state` for the classes of `num_samples`.

    The number of samples stands for the labels of a class that an older program did not count.
    """
    labels = {label: num for label, num in state.labels.items() if label in num_samples}
    for label, num in num_samples.items():
        labels.setdefault(label, num)
    return ClassesState(labels=labels, others=state.others)


class Classes:
    """Counts the labels of each class, and knows which class has a row. A class is known by its name."""

    def __init__(self, capacity: int, *, min_labels: int, state: ClassesState | None = None) -> None:
        self._capacity = capacity
        self._min_labels = min_labels
        self._labels = dict(state.labels) if state else {}
        self._others = OrderedDict(state.others if state else {})

    def count_label(self, label: str) -> None:
        """Counts one more label of a class, whether it is learnt or not."""
        if label in self._labels:
            self._labels[label] = self._labels.pop(label) + 1
            return
        name = hash_of(label.encode())
        self._others[name] = self._others.pop(name, 0) + 1
        if len(self._others) > MAX_OTHERS:
            self._others.popitem(last=False)

    def admit(self, label: str) -> None:
        """Gives a class a free row."""
        self._labels[label] = self._others.pop(hash_of(label.encode()), 0)

    def evict(self, label: str) -> int:
        """Takes its row from a class; returns how many labels it had."""
        return self._labels.pop(label)

    def rename(self, new: Mapping[str, str]) -> None:
        """Gives classes other names; the labels of classes that become one are counted together."""
        renamed = dict[str, int]()
        for label, num in self._labels.items():
            name = new.get(label, label)
            renamed[name] = renamed.pop(name, 0) + num
        self._labels = renamed

    def retire(self, label: str) -> None:
        """Takes its row from a class, if it has one, and forgets how many labels it had."""
        self._labels.pop(label, None)

    def within(self, sample: Sample) -> Sample:
        """Returns a sample of a set of labels or of a score, without the classes that get no row; free rows are taken.

        A set makes no class go: a class of which samples have other labels, too, cannot be taken out alone.
        """
        names = names_of(sample.label)
        for name in names:
            self.count_label(name)
        kept = [name for name in names if self.has_row_for(msgspec.structs.replace(sample, label=name))]
        return sample if is_value(sample.label) else msgspec.structs.replace(sample, label=set_of(kept))

    def in_the_way_of(self, sample: Sample) -> list[str]:
        """Returns the classes of which one has to make room for that of `sample`, weakest first; [] for no need."""
        needs_no_room = sample.is_in_holdout or not self.is_full or sample.label in self
        return [] if needs_no_room else self.weaker(sample.label)

    def has_row_for(self, sample: Sample) -> bool:
        """Whether the class of `sample` has a row or gets a free one.

        A holdout sample takes no row, but while there are free rows it may come before its class has one.
        """
        is_new = sample.label not in self
        if is_new and self.is_full:
            return False
        if is_new and not sample.is_in_holdout:
            self.admit(sample.label)
        return True

    def weaker(self, label: str) -> list[str]:
        """Returns the provisional classes with fewer labels than a class without a row, those with the fewest first."""
        num_labels = min(self._others.get(hash_of(label.encode()), 0), self._min_labels)
        weaker = [name for name, num in self._labels.items() if num < num_labels]
        return sorted(weaker, key=self._labels.__getitem__)

    def alarms(self) -> Iterable[str]:
        """Yields what an operator has to know of the rows, in words."""
        if self.is_full and self._others:
            yield (
                f"all {self._capacity} classes are taken, {self.num_provisional} by provisional ones: labels of "
                f"{len(self._others)} others are not learnt; raise learner.label_capacity, or look at who says them"
            )

    @property
    def is_full(self) -> bool:
        return len(self._labels) >= self._capacity

    @property
    def num_provisional(self) -> int:
        return sum(num < self._min_labels for num in self._labels.values())

    def __contains__(self, label: str) -> bool:
        return label in self._labels

    def export(self) -> ClassesState:
        return ClassesState(labels=dict(self._labels), others=dict(self._others))
