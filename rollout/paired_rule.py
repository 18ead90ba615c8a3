"""Decides whether a candidate is promoted, withdrawn or held, by comparing predictions for the same labelled events.
Pure.

    PairedEvidence --measure--> Numbers --decide--> Ruling

A candidate is withdrawn if

- it is worse than the stable version,
- or it is worse than the reference by more than `MARGIN`,
- or its answers fail or are slow.

It is promoted by the first of two rules that holds:

    B  superior    it is better than the stable version
    C  not worse   it is not worse than the stable version or the reference by `MARGIN`, and its ramp is over

Rule A, and others that may promote a version at its publication, are in `rollout/publication_rule.py`.

The reference is an earlier stable version. It stays the reference until another version is shown to be better on at
least `MIN_LABELS` labels (`is_next_reference`). Each promoted version is at most the margin worse than the reference,
so many promotions together lose no more than the margin (Feng, Emerson and Simon 2019, arXiv 1912.12413).

No source of labels decides alone. If there are several sources, each condition must also hold if the labels of any
single source are left out.

Labels of some classes may come sooner than labels of other classes, which biases a comparison. So rule C counts only
labels of settled events: events so old that nine of ten labels have come. All other conditions count every label at
once.

Error rates if the rule is applied after every label, in 10,000 simulated runs each
(`tests/rollout/test_paired_rule_rates.py`): an equal candidate is withdrawn in 0.9 %; a candidate that is 5 points
worse is promoted in at most 0.07 %, and one that is 10 points worse in none. An equal candidate is shown to be not
worse by the margin after 640, 1,220 and 2,340 labels (median) if the versions differ on 1, 5 and 10 % of the labels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from rollout.statistics import (
    NO_LABELS,
    PairedTally,
    log_e_value_above,
    log_e_value_above_each,
    log_e_value_errors,
    log_e_value_mismatch,
    log_e_value_of_means,
    log_e_value_slow,
)
from wire.records import NOT_WORSE, SUPERIOR, VersionHealth

NO_HEALTH: Final = VersionHealth(version=0)


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """The wins, ties and losses of one version against another.

    - `labels`: all labels so far.
    - `settled`: the labels of settled events.
    - `sources`: the labels of each source, or of each group of sources. Empty: sources are not distinguished.
    """

    labels: PairedTally = NO_LABELS
    settled: PairedTally = NO_LABELS
    sources: Sequence[PairedTally] = ()

    @property
    def leave_one_out(self) -> Sequence[PairedTally]:
        """For each source, the labels of all other sources. With one source only, all labels."""
        if len(self.sources) < 2:
            return (self.labels,)
        return tuple(self.labels - source for source in self.sources)


@dataclass(frozen=True, slots=True)
class TrafficSplit:
    """The traffic split under the present plan: the number of keys (entities) that each arm got, and the arms' planned
    shares."""

    keys: Sequence[int] = (0,)
    shares: Sequence[float] = (1.0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedEvidence:
    """All evidence about one candidate.

    - `stable`, `reference`: the comparisons with the stable version and with the reference.
    - `class_groups`: the labels against the stable version, by group of classes.
    - `audited`: the comparison with the stable version on the events whose labels are always requested.
    - `traffic`: the traffic of the candidate and the stable version.
    - `health`: the candidate's health, summed over all replicas.
    - `is_ramp_over`: whether the candidate's ramp is over.
    """

    stable: PairedComparison = PairedComparison()
    reference: PairedComparison = PairedComparison()
    class_groups: Sequence[PairedTally] = ()
    audited: PairedComparison = PairedComparison()
    traffic: TrafficSplit = TrafficSplit()
    health: VersionHealth = NO_HEALTH
    is_ramp_over: bool = False


MARGIN: Final = 0.02
"""Largest loss of accuracy that rule C accepts, also in total since the last change of the reference."""

ERROR: Final = 0.01
"""Probability of each wrong conclusion about the accuracy, however often the rule is applied."""

THRESHOLD: Final = -math.log(ERROR)

OPERATIONAL_THRESHOLD: Final = math.log(1_000)
"""Threshold of the tests of errors, latency and routing. Each is wrong with a probability of 0.1 %."""

MIN_LABELS: Final = 1_000
"""Fewest labels by which a version becomes the next reference."""

DOUBT_THRESHOLD: Final = math.log(20)
"""If the evidence that a version is worse reaches this threshold, no rule promotes the version at its publication."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """The measured evidence about a candidate: the logarithm of an e-value for each hypothesis."""

    worse: float
    worse_than_reference: float
    better: float
    not_worse: float
    not_worse_than_reference: float
    worst_group: float
    audited_worse: float
    """Evidence that it is worse on the events whose labels are always requested, whatever the answer was."""
    sources_worse: float
    sources_better: float
    errors: float
    slow: float
    mismatch: float

    @property
    def is_unhealthy(self) -> bool:
        """Whether the version's answers fail or are slow."""
        return max(self.errors, self.slow) >= OPERATIONAL_THRESHOLD


@dataclass(frozen=True, slots=True)
class Ruling:
    """The decision. `rule` names the rule that promotes ("": nothing is promoted), and `reason` is a sentence."""

    action: Literal["promote", "withdraw", "hold"]
    rule: str
    reason: str
    numbers: Numbers


def decide(evidence: PairedEvidence) -> Ruling:
    """Returns the decision. It may be called after every label and every answer without raising the error rates."""
    numbers = measure(evidence)
    if reason := _withdrawal_reason(numbers):
        return Ruling("withdraw", "", f"{reason}, {evidence.stable.labels}", numbers)
    if reason := _objection(numbers):
        return Ruling("hold", "", reason, numbers)
    if numbers.better >= THRESHOLD:
        return Ruling("promote", SUPERIOR, f"it is better than the stable version, {evidence.stable.labels}", numbers)
    if min(numbers.not_worse, numbers.not_worse_than_reference) < THRESHOLD:
        return Ruling("hold", "", f"too close to call: {evidence.stable.labels}", numbers)
    if not evidence.is_ramp_over:
        return Ruling("hold", "", "it is not worse by the margin, and its ramp is not over", numbers)
    return Ruling("promote", NOT_WORSE, f"it is not worse by the margin, {evidence.stable.settled}", numbers)


def measure(evidence: PairedEvidence) -> Numbers:
    """Returns the numbers on which the decision is based."""
    stable = evidence.stable
    reference = evidence.reference
    traffic = evidence.traffic
    means = [(source.wins - source.losses) / source.labels for source in stable.sources if source.labels]
    return Numbers(
        worse=shown_below(stable, 0.0),
        worse_than_reference=shown_below(reference, -MARGIN),
        better=shown_above(stable, 0.0),
        not_worse=min(log_e_value_above(stable.settled, -MARGIN), shown_above(stable, -MARGIN)),
        not_worse_than_reference=min(log_e_value_above(reference.settled, -MARGIN), shown_above(reference, -MARGIN)),
        worst_group=_worst(evidence.class_groups),
        audited_worse=shown_below(evidence.audited, 0.0),
        sources_worse=log_e_value_of_means([-mean for mean in means], 0.0),
        sources_better=log_e_value_of_means(means, 0.0),
        errors=log_e_value_errors(evidence.health.errors, evidence.health.answers),
        slow=log_e_value_slow(evidence.health.slow, evidence.health.timed),
        mismatch=log_e_value_mismatch(traffic.keys, traffic.shares),
    )


def shown_above(comparison: PairedComparison, mean: float) -> float:
    """Returns the evidence that the mean difference is above `mean`: the logarithm of an e-value.

    Each source is left out in turn, and the lowest value counts.
    """
    return float(log_e_value_above_each(comparison.leave_one_out, mean).min())


def shown_below(comparison: PairedComparison, mean: float) -> float:
    """Returns the evidence that the mean difference is below `mean`: the logarithm of an e-value.

    Each source is left out in turn, and the lowest value counts.
    """
    mirrored = [tally.mirrored for tally in comparison.leave_one_out]
    return float(log_e_value_above_each(mirrored, -mean).min())


def _worst(groups: Sequence[PairedTally]) -> float:
    """Returns the evidence that the candidate is worse on at least one of the groups, with a Bonferroni correction."""
    if not groups:
        return 0.0
    return float(log_e_value_above_each([group.mirrored for group in groups], 0.0).max()) - math.log(len(groups))


def is_next_reference(comparison: PairedComparison) -> bool:
    """Whether a version becomes the next reference. `comparison` has its labels against the present one."""
    return comparison.labels.labels >= MIN_LABELS and shown_above(comparison, 0.0) >= THRESHOLD


def _withdrawal_reason(numbers: Numbers) -> str:
    """Returns the reason to withdraw the candidate, "" if there is none."""
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
    """Returns the reason why no rule may promote the candidate, "" if there is none."""
    if numbers.mismatch >= OPERATIONAL_THRESHOLD:
        return "the arms do not get their shares of the traffic: the routing is wrong"
    if numbers.worst_group >= THRESHOLD:
        return "it is worse on a group of classes"
    if numbers.audited_worse >= THRESHOLD:
        return "it is worse on the events whose labels were asked for"
    if numbers.sources_worse >= THRESHOLD:
        return "it is worse by the sources of the labels, each counted once"
    return ""
