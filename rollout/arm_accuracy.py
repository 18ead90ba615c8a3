"""How accurate the arms are as answered: the last labels of each, whatever the versions that it had meanwhile.

    JudgedLabel --> right or not, by the arm that answered --> ArmCounts --with_bounds--> ArmAccuracy, in a report

Where an arm's accuracy changes, with its versions or with what is asked, the bounds are those of its average over these
labels: the bets of `rollout.statistics.betting` are fixed, so that the wealth is at most as large as under a constant
share of that average (inequality of arithmetic and geometric means).
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Final, NamedTuple

from rollout.judged_events import JudgedLabel
from rollout.statistics.confidence_sequence import share_interval
from wire.records import ArmAccuracy, ArmName

BLOCK: Final = 1_000
"""Labels after which those before the last BLOCK are forgotten: between one and two blocks count."""


class ArmCounts(NamedTuple):
    """How many of the last labels of an arm were right."""

    arm: ArmName
    labels: int
    right: int


@dataclass(slots=True)
class _Block:
    labels: int = 0
    right: int = 0


class ArmAccuracies:
    """Counts since the start of the controller. Verbs: add, counts."""

    def __init__(self) -> None:
        self._blocks: defaultdict[ArmName, list[_Block]] = defaultdict(lambda: [_Block(), _Block()])

    def add(self, label: JudgedLabel) -> None:
        """Counts a label for the arm that answered. A label that corrects another one is not counted again."""
        if label.corrected is not None:
            return
        before, now = self._blocks[label.verdicts.arm]
        if now.labels == BLOCK:
            before, now = now, _Block()
            self._blocks[label.verdicts.arm] = [before, now]
        now.labels += 1
        now.right += label.rights().get(label.verdicts.version, False)

    def counts(self) -> tuple[ArmCounts, ...]:
        """Returns the arms that got labels, by their names."""
        blocks = sorted(self._blocks.items())
        return tuple(ArmCounts(arm, old.labels + new.labels, old.right + new.right) for arm, (old, new) in blocks)


def with_bounds(counts: ArmCounts) -> ArmAccuracy:
    """Returns the counts with their confidence sequence, which takes 0.2 ms."""
    low, high = share_interval(counts.right, counts.labels)
    return ArmAccuracy(arm=counts.arm, labels=counts.labels, right=counts.right, low=low, high=high)
