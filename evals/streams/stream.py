"""Defines a stage, and the stream that the demo plays: stages of training items with test items of the same classes.

    Stream -> shuffled (within each stage) -> limited (to N training events, evenly)

This module loads no torch.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from learner.errors import DataError

Items = TypeVar("Items")


@dataclass(frozen=True, slots=True)
class Stage(Generic[Items]):
    """Training and test items of the same classes, as a `Part` (benchmark.py) or as `StreamItem`s (stream.py)."""

    name: str
    train: Items
    test: Items


FULL_RATE = 200.0
"""The default rate, in events a second."""

MIN_RATE = 10.0
"""The lowest default rate, in events a second."""

SHORT_STAGE_S = 5.0
STRETCHED_S = 15.0
"""If the largest stage would last less than `SHORT_STAGE_S` at the full rate, it is stretched to `STRETCHED_S`, so that
its labels come back while it is played."""

ARRIVALS_S = 80.0
"""The time over which a stream without pauses is spread, in seconds."""

DECISIONS_PER_STAGE = 4
MIN_LABELS = 8


@dataclass(frozen=True, slots=True)
class StreamItem:
    """A text with its true label, as the demo plays it."""

    text: str
    label: str
    kind: str = ""
    """How the text was created, such as "written one by one". Accuracies are shown for each kind."""


TextStage: TypeAlias = Stage[tuple[StreamItem, ...]]


class Arrival(NamedTuple):
    """A training item and the number of its stage."""

    item: StreamItem
    stage: int


@dataclass(frozen=True, slots=True)
class Stream:
    """A named data set as stages, in the order in which they are played.

    If there are `arrivals` (`evals/streams/arrivals.py`), they are played in order without a pause, and all stages are
    tested at the end. Otherwise the stages are played one after another, and tested after each.
    """

    name: str
    stages: tuple[TextStage, ...]
    arrivals: tuple[Arrival, ...] = ()

    @property
    def num_events(self) -> int:
        """The number of training events."""
        return len(self.arrivals) or sum(len(stage.train) for stage in self.stages)

    @property
    def train_items(self) -> list[StreamItem]:
        return list(chain.from_iterable(stage.train for stage in self.stages))

    @property
    def test_items(self) -> list[StreamItem]:
        return list(chain.from_iterable(stage.test for stage in self.stages))

    @property
    def num_labels(self) -> int:
        return len({item.label for item in self.train_items})

    @property
    def default_rate(self) -> float:
        """The default rate in events a second: 200, or less if a stage would end before its labels come back.

        Arrivals are spread over `ARRIVALS_S` if the full rate allows it.
        """
        if self.arrivals:
            return min(FULL_RATE, max(MIN_RATE, round(self.num_events / ARRIVALS_S, 1)))
        if self.max_train >= SHORT_STAGE_S * FULL_RATE:
            return FULL_RATE
        return max(MIN_RATE, round(self.max_train / STRETCHED_S, 1))

    @property
    def max_train(self) -> int:
        """The number of training items of the largest stage."""
        return max(len(stage.train) for stage in self.stages)

    def labels_to_decide(self, share: float) -> int:
        """Returns how many labels a decision about the candidate may need, so that a stage allows several decisions.

        `share` is the share of the events that the candidate's arm gets.
        """
        return max(MIN_LABELS, round(share * self.max_train / DECISIONS_PER_STAGE))

    def shuffled(self, seed: int) -> "Stream":
        """Shuffles the training items within each stage. The order depends only on `seed` and the stage's number."""
        stages = []
        for number, stage in enumerate(self.stages):
            train = list(stage.train)
            random.Random(f"{seed}/{number}").shuffle(train)
            stages.append(replace(stage, train=tuple(train)))
        return replace(self, stages=tuple(stages))

    def limited(self, num_events: int | None) -> "Stream":
        """Truncates the stages so that at most `num_events` training items are left. The test items stay as they are.

        Raises DataError if there would be less than one item for each stage.
        """
        if num_events is None or num_events >= self.num_events:
            return self
        if num_events < len(self.stages):
            raise DataError(f"{num_events} events are too few: {self.name} has {len(self.stages)} stages")
        shares = even_shares(num_events, [len(stage.train) for stage in self.stages])
        stages = (replace(stage, train=stage.train[:share]) for stage, share in zip(self.stages, shares, strict=True))
        return replace(self, stages=tuple(stages))


def even_shares(total: int, sizes: Sequence[int]) -> list[int]:
    """Divides `total` into shares of at most `sizes`, as equal as possible. Large shares get the rest of small ones.

    >>> even_shares(10, [9, 2, 9])
    [4, 2, 4]
    """
    shares = [0] * len(sizes)
    remaining = min(total, sum(sizes))
    smallest_first = sorted(range(len(sizes)), key=lambda index: sizes[index])
    for num_done, index in enumerate(smallest_first):
        equal_share = math.ceil(remaining / (len(sizes) - num_done))
        shares[index] = min(sizes[index], equal_share)
        remaining -= shares[index]
    return shares
