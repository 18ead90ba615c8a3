"""Promote, withdraw or hold one candidate version, by what two versions named on the same labelled events. Pure.

    PairedEvidence --measure--> Numbers --decide--> Ruling

A candidate is withdrawn if it is worse than the stable version, or worse than the reference by more than `MARGIN`, or
fails, or is slow. It is promoted by the first of two rules that holds:

    B  superior    it is better than the stable version
    C  not worse   it is not worse than the stable version or the reference by `MARGIN`, and its ramp is over

What may promote a version before, at its publication, is in `rollout/publication_rule.py`.

The reference is a fixed version that moves only if a version was shown to be better than it, on `MIN_LABELS` labels at
least (`is_next_reference`). Against it no chain of promotions, each within the margin, loses more than the margin
(Feng, Emerson and Simon 2019, arXiv 1912.12413).

No source of labels decides alone: if there are several, each of these must be shown without any single one of them.

Labels whose delay depends on their class come sooner for some classes than for others. After a ramp, rule C therefore
counts labels of settled events only, those so old that nine of ten labels have come; all others count every label at
once.

Asked after every label, 10,000 simulated runs each (`tests/rollout/test_paired_rule_rates.py`): equal and withdrawn
0.9 %; 5 points worse and promoted 0.07 % at most, 10 points worse 0; equal and not worse by the margin after 640, 1,220
and 2,340 labels (median) if the versions differ on 1, 5 and 10 % of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from rollout.statistics import (
    NO_LABELS,
    PairedTally,
    log_e_above,
    log_e_errors,
    log_e_mismatch,
    log_e_of_means,
    log_e_slow,
    log_es_above,
)
from wire.records import NOT_WORSE, SUPERIOR, VersionHealth

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


MARGIN: Final = 0.02
"""Largest loss of accuracy that rule C accepts, also in total since the reference."""

ERROR: Final = 0.01
"""Probability of each wrong verdict about the accuracy, however often it is asked."""

THRESHOLD: Final = -math.log(ERROR)

OPERATIONAL_THRESHOLD: Final = math.log(1_000)
"""Threshold of errors, latency and routing: each is wrong with a probability of 0.1 %."""

MIN_LABELS: Final = 1_000
"""Fewest labels that the next reference was compared on with the one before."""

DOUBT: Final = math.log(20)
"""Evidence that a version is worse than another, from which on no rule promotes it at its publication."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """The measured evidence: logarithms of e-values."""

    worse: float
    worse_than_reference: float
    better: float
    not_worse: float
    not_worse_than_reference: float
    worst_group: float
    audited_worse: float
    """Evidence that it is worse on the events whose labels were asked for, whatever was answered."""
    sources_worse: float
    sources_better: float
    errors: float
    slow: float
    mismatch: float

    @property
    def is_unhealthy(self) -> bool:
        """Whether the answers of the version fail, or are slow."""
        return max(self.errors, self.slow) >= OPERATIONAL_THRESHOLD


@dataclass(frozen=True, slots=True)
class Ruling:
    """The decision, the rule that promotes ("" for the others), the sentence that says why, and the numbers."""

    action: Literal["promote", "withdraw", "hold"]
    rule: str
    reason: str
    numbers: Numbers


def decide(evidence: PairedEvidence) -> Ruling:
    """Returns what follows from the evidence; it may be asked after every label and every answer."""
    numbers = measure(evidence)
    if reason := _withdrawal(numbers):
        return Ruling("withdraw", "", f"{reason}, {evidence.stable.labels}", numbers)
    if reason := _objection(numbers):
        return Ruling("hold", "", reason, numbers)
    if numbers.better >= THRESHOLD:
        return Ruling("promote", SUPERIOR, f"it is better than the stable version, {evidence.stable.labels}", numbers)
    if min(numbers.not_worse, numbers.not_worse_than_reference) < THRESHOLD:
        return Ruling("hold", "", f"too close to call: {evidence.stable.labels}", numbers)
    if not evidence.is_exposed:
        return Ruling("hold", "", "it is not worse by the margin, and its ramp is not over", numbers)
    return Ruling("promote", NOT_WORSE, f"it is not worse by the margin, {evidence.stable.settled}", numbers)


def measure(evidence: PairedEvidence) -> Numbers:
    """Returns the numbers that the decision rests on."""
    stable = evidence.stable
    reference = evidence.reference
    traffic = evidence.traffic
    means = [(source.wins - source.losses) / source.labels for source in stable.sources if source.labels]
    return Numbers(
        worse=shown_below(stable, 0.0),
        worse_than_reference=shown_below(reference, -MARGIN),
        better=shown_above(stable, 0.0),
        not_worse=min(log_e_above(stable.settled, -MARGIN), shown_above(stable, -MARGIN)),
        not_worse_than_reference=min(log_e_above(reference.settled, -MARGIN), shown_above(reference, -MARGIN)),
        worst_group=_worst(evidence.class_groups),
        audited_worse=shown_below(evidence.audited, 0.0),
        sources_worse=log_e_of_means([-mean for mean in means], 0.0),
        sources_better=log_e_of_means(means, 0.0),
        errors=log_e_errors(evidence.health.errors, evidence.health.answers),
        slow=log_e_slow(evidence.health.slow, evidence.health.timed),
        mismatch=log_e_mismatch(traffic.keys, traffic.shares),
    )


def shown_above(comparison: PairedComparison, mean: float) -> float:
    """Returns the logarithm of E against "the mean difference is `mean` at most", without the source that matters
    most."""
    return float(log_es_above(comparison.without_one_source, mean).min())


def shown_below(comparison: PairedComparison, mean: float) -> float:
    """Returns the logarithm of E against "the mean difference is `mean` at least", without the source that matters
    most."""
    mirrored = [tally.mirrored for tally in comparison.without_one_source]
    return float(log_es_above(mirrored, -mean).min())


def _worst(groups: Sequence[PairedTally]) -> float:
    """Returns the evidence that the candidate is worse on one of the groups: that of the worst, less its selection."""
    if not groups:
        return 0.0
    return float(log_es_above([group.mirrored for group in groups], 0.0).max()) - math.log(len(groups))


def is_next_reference(comparison: PairedComparison) -> bool:
    """Returns whether a version that was compared with the reference takes its place."""
    return comparison.labels.labels >= MIN_LABELS and shown_above(comparison, 0.0) >= THRESHOLD


def _withdrawal(numbers: Numbers) -> str:
    """Returns why the candidate is withdrawn, "" where nothing speaks for it."""
    if numbers.worse >= THRESHOLD and numbers.sources_better < THRESHOLD:
        return "it is worse than the stable version"
    if numbers.worse_than_reference >= THRESHOLD:
        return f"it is worse than the reference by more than {MARGIN:.0%}"
    if numbers.errors >= OPERATIONAL_THRESHOLD:
        return "its answers fail"
    if numbers.slow >= OPERATIONAL_THRESHOLD:
        return "its answers are slow"
    return ""


def _objection(numbers: Numbers) -> str:
    """Returns why no rule may promote the candidate, "" where nothing stands against it."""
    if numbers.mismatch >= OPERATIONAL_THRESHOLD:
        return "the arms do not get their shares of the traffic: the routing is wrong"
    if numbers.worst_group >= THRESHOLD:
        return "it is worse on a group of classes"
    if numbers.audited_worse >= THRESHOLD:
        return "it is worse on the events whose labels were asked for"
    if numbers.sources_worse >= THRESHOLD:
        return "it is worse by the sources of the labels, each counted once"
    return ""
