"""What is known about one candidate version: the evidence that `rollout/paired_rule.py` decides by."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rollout.statistics.paired import NO_LABELS, PairedTally
from wire.records import NameChanges

NO_CHANGES: Final = NameChanges()


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """A version against one other: on all labels so far, on those of settled events, and on those of each source.

    Sources may be grouped; each label is of one group. Without `sources` they are not told apart.
    """

    labels: PairedTally = NO_LABELS
    settled: PairedTally = NO_LABELS
    sources: Sequence[PairedTally] = ()

    @property
    def without_one_source(self) -> Sequence[PairedTally]:
        """All labels without those of each source in turn; where there is one source only, all labels."""
        if len(self.sources) < 2:
            return (self.labels,)
        return tuple(self.labels - source for source in self.sources)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The candidate's own answers, and the routing under the present plan.

    `errors` of `answers` failed, and `slow` of `timed` were slow as `rollout.statistics.health` defines it. `keys`
    counts the keys that each arm got, `shares` has what the plan gives it.
    """

    answers: int = 0
    errors: int = 0
    timed: int = 0
    slow: int = 0
    keys: Sequence[int] = (0,)
    shares: Sequence[float] = (1.0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedEvidence:
    """All that is known about one candidate.

    `class_groups` compares it with the stable version group by group. `changes` are those of its manifest.
    `is_exposed` tells whether its ramp is over.
    """

    stable: PairedComparison = PairedComparison()
    reference: PairedComparison = PairedComparison()
    class_groups: Sequence[PairedTally] = ()
    changes: NameChanges = NO_CHANGES
    traffic: Traffic = Traffic()
    is_exposed: bool = False
