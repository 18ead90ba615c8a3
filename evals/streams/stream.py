"""Defines a stage, and what the demo plays: stages of training items, each with the test items of the same classes.

    Stream -> shuffled (inside each stage) -> limited (to N training events, evenly)

It loads no torch.
"""

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
"""A largest stage that would last less than `SHORT_STAGE_S` at the full rate is stretched to `STRETCHED_S`, so that its
own labels come back while it is played."""

DESK_S = 80.0
"""The seconds over which the arrivals of a stream without pauses are spread."""

DECISIONS_PER_STAGE = 4
MIN_LABELS = 8


@dataclass(frozen=True, slots=True)
class StreamItem:
    text: str
    label: str
    kind: str = ""
    """How the text came to be, where that matters: accuracies are shown for each kind."""


TextStage: TypeAlias = Stage[tuple[StreamItem, ...]]


class Arrival(NamedTuple):
    """A training item in the order in which it comes, and the number of its stage."""

    item: StreamItem
    stage: int


@dataclass(frozen=True, slots=True)
class Stream:
    """A named data set as stages, in the order in which they are played.

    Where there are `arrivals` (`evals/streams/arrivals.py`), they come in their order without a pause, and the test
    items are those of the end. Otherwise each stage is played by itself, and tested when it is learnt.
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
        """Events a second: 200, or less where the largest stage would be over before its labels come back.

        Arrivals last `DESK_S` where they are few enough.
        """
        if self.arrivals:
            return min(FULL_RATE, max(MIN_RATE, round(self.num_events / DESK_S, 1)))
        if self.max_train >= SHORT_STAGE_S * FULL_RATE:
            return FULL_RATE
        return max(MIN_RATE, round(self.max_train / STRETCHED_S, 1))

    @property
    def max_train(self) -> int:
        """The number of training items of the largest stage."""
        return max(len(stage.train) for stage in self.stages)

    def labels_to_decide(self, share: float) -> int:
        """How many labels a decision about the candidate may need so that every stage has enough for some decisions.

        `share` is the candidate arm's share of the events.
        """
        return max(MIN_LABELS, round(share * self.max_train / DECISIONS_PER_STAGE))

    def shuffled(self, seed: int) -> "Stream":
        """Shuffles the training items inside each stage. The order depends on `seed` and the stage's number alone."""
        stages = []
        for number, stage in enumerate(self.stages):
            train = list(stage.train)
            random.Random(f"{seed}/{number}").shuffle(train)
            stages.append(replace(stage, train=tuple(train)))
        return replace(self, stages=tuple(stages))

    def limited(self, num_events: int | None) -> "Stream":
        """Truncates each stage so that at most `num_events` training items are left. The test items stay as they are.

        Raises `DataError` where that is less than one item a stage.
        """
        if num_events is None or num_events >= self.num_events:
            return self
        if num_events < len(self.stages):
            raise DataError(f"{num_events} events are too few: {self.name} has {len(self.stages)} stages")
        shares = even_shares(num_events, [len(stage.train) for stage in self.stages])
        stages = (replace(stage, train=stage.train[:share]) for stage, share in zip(self.stages, shares, strict=True))
        return replace(self, stages=tuple(stages))


def even_shares(total: int, sizes: Sequence[int]) -> list[int]:
    """Divides `total` into shares as equal as the `sizes` allow; what a small one leaves over goes to the others.

    >>> even_shares(10, [9, 2, 9])
    [4, 2, 4]
    """
    shares = [0] * len(sizes)
    left = min(total, sum(sizes))
    for done, place in enumerate(sorted(range(len(sizes)), key=lambda place: sizes[place])):
        shares[place] = min(sizes[place], -(-left // (len(sizes) - done)))
        left -= shares[place]
    return shares
