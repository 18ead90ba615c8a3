"""What the demo plays: stages of training items, each with the test items of the same classes.

    Stream -> shuffled (inside each stage) -> limited (to N training events, evenly)

Rejected: shuffling across stages. The point is that old classes do not come back.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from learner.errors import DataError

FULL_RATE = 200.0
SLOWEST = 10.0
"""Events a second where nothing else is asked for, and where there are few of them."""

SHORT_STAGE_S = 5.0
STRETCHED_S = 15.0
"""A largest stage that would be over sooner than the one is played in the other, so that its own labels come back."""

DECISIONS_A_STAGE = 4
FEWEST_LABELS = 8


@dataclass(frozen=True, slots=True)
class StreamItem:
    text: str
    label: str


@dataclass(frozen=True, slots=True)
class Stage:
    name: str
    train: tuple[StreamItem, ...]
    test: tuple[StreamItem, ...]


@dataclass(frozen=True, slots=True)
class Stream:
    """A named data set as stages, in the order they are played."""

    name: str
    stages: tuple[Stage, ...]

    @property
    def num_events(self) -> int:
        """Training events of all stages."""
        return sum(len(stage.train) for stage in self.stages)

    @property
    def num_labels(self) -> int:
        return len({item.label for stage in self.stages for item in stage.train})

    @property
    def default_rate(self) -> float:
        """Events a second: 200, or less where the largest stage would be over before its labels come back."""
        if self.largest >= SHORT_STAGE_S * FULL_RATE:
            return FULL_RATE
        return max(SLOWEST, round(self.largest / STRETCHED_S, 1))

    @property
    def largest(self) -> int:
        """Training items of the largest stage."""
        return max(len(stage.train) for stage in self.stages)

    def labels_to_decide(self, share: float) -> int:
        """Labels of the candidate arm, which has this share, with which some decisions can be made in every stage."""
        return max(FEWEST_LABELS, round(share * self.largest / DECISIONS_A_STAGE))


def shuffled(stream: Stream, seed: int) -> Stream:
    """The same stages; the order of their training items depends on `seed` and the place of the stage alone."""
    stages = []
    for number, stage in enumerate(stream.stages):
        train = list(stage.train)
        random.Random(f"{seed}/{number}").shuffle(train)
        stages.append(replace(stage, train=tuple(train)))
    return replace(stream, stages=tuple(stages))


def limited(stream: Stream, num_events: int | None) -> Stream:
    """The first training items of each stage, `num_events` in all at most. The test items stay as they are."""
    if num_events is None or num_events >= stream.num_events:
        return stream
    if num_events < len(stream.stages):
        raise DataError(f"{num_events} events are too few: {stream.name} has {len(stream.stages)} stages")
    shares = even_shares(num_events, [len(stage.train) for stage in stream.stages])
    stages = (replace(stage, train=stage.train[:share]) for stage, share in zip(stream.stages, shares, strict=True))
    return replace(stream, stages=tuple(stages))


def even_shares(total: int, sizes: Sequence[int]) -> list[int]:
    """Shares of `total` as equal as the `sizes` allow; what a small one leaves goes to the others.

    >>> even_shares(10, [9, 2, 9])
    [4, 2, 4]
    """
    shares = [0] * len(sizes)
    left = min(total, sum(sizes))
    for done, place in enumerate(sorted(range(len(sizes)), key=lambda place: sizes[place])):
        shares[place] = min(sizes[place], -(-left // (len(sizes) - done)))
        left -= shares[place]
    return shares
