"""What is known about one candidate version: the evidence that `rollout/paired_rule.py` decides by."""

from collections.abc import Sequence
from dataclasses import dataclass

from rollout.statistics.paired import NO_LABELS, PairedTally


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """The candidate against one other version: on all labels so far, and on those of settled events."""

    labels: PairedTally = NO_LABELS
    settled: PairedTally = NO_LABELS


@dataclass(frozen=True, slots=True)
class NewClass:
    """A class that the reference lacks: how many recent texts the candidate named so, and how many labels say so."""

    texts: int
    labels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NameChanges:
    """Recent texts as the candidate and the reference name them; no labels are needed, but for `wins_on_new`.

    `between_old` counts changes between two classes that the reference knows, `to_new` those to a class that it lacks.
    `wins_on_new` compares the two on the labelled events that the candidate names as a class that the reference lacks.
    """

    texts: int = 0
    between_old: int = 0
    to_new: int = 0
    wins_on_new: PairedTally = NO_LABELS
    new_classes: Sequence[NewClass] = ()
    labels: int = 0


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

    `class_groups` and `source_means` compare it with the stable version: group by group, and source by source.
    `is_exposed` tells whether its ramp is over.
    """

    stable: PairedComparison = PairedComparison()
    reference: PairedComparison = PairedComparison()
    class_groups: Sequence[PairedTally] = ()
    source_means: Sequence[float] = ()
    changes: NameChanges = NameChanges()
    traffic: Traffic = Traffic()
    is_exposed: bool = False
