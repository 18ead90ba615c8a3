"""What is known about one candidate version: the evidence that `rollout/paired_rule.py` decides by."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rollout.statistics.paired import NO_LABELS, PairedTally
from wire.records import VersionHealth

NO_HEALTH: Final = VersionHealth(version=0)


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


@dataclass(frozen=True, slots=True)
class Traffic:
    """The routing under the present plan: `keys` counts the keys that each arm got, `shares` has what it gives it."""

    keys: Sequence[int] = (0,)
    shares: Sequence[float] = (1.0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedEvidence:
    """All that is known about one candidate.

    `class_groups` compares it with the stable version group by group, and `audited` on the events whose labels were
    asked for. `health` is that of all replicas together. `is_exposed` says whether its ramp is over.
    """

    stable: PairedComparison = PairedComparison()
    reference: PairedComparison = PairedComparison()
    class_groups: Sequence[PairedTally] = ()
    audited: PairedComparison = PairedComparison()
    traffic: Traffic = Traffic()
    health: VersionHealth = NO_HEALTH
    is_exposed: bool = False
