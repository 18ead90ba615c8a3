"""Promote, withdraw or hold one candidate version, by what two versions named on the same events. Pure.

    PairedEvidence --measure--> Numbers --decide--> Ruling

A candidate is withdrawn where it is worse than the stable version, or worse than the reference by more than `MARGIN`,
fails, or is slow. It is promoted by the first of three rules that holds:

    A  additive    it names old classes nearly as the reference does, whatever it names by new ones: without labels
    B  superior    it is better than the stable version, or its line is better than the reference
    C  not worse   it is not worse than the reference by `MARGIN`: itself, when its ramp is over, or its line

The reference is a fixed version that moves only where a version was shown to be better than it, on `MIN_LABELS` labels
at least (`is_next_reference`). Against it no chain of promotions, each within the margin, loses more than the margin
(Feng, Emerson and Simon 2019, arXiv 1912.12413).

Rule A rests on an inequality: on events of old classes, accuracies cannot differ by more than the share of answers that
differ. So with changes within the margin it loses no more than rule C accepts. Names of classes that the reference
lacks are exceptions, of which labels must not say otherwise: neither the texts that the reference named rightly
(`forgotten`), nor the line. Its bound is for texts like the recent ones, so what it promoted is watched by
`rollout.statistics.e_detector`.

The manifest of a version says how its line, the versions published before it, did on labelled events since the
reference was set, each label before it was learnt. These labels are judged when they come, not when they were asked
for, so rules B and C need no label of an event that the version itself answered. They are of its predecessors, so no
rule promotes a version that has `lost` what the one before it names rightly, as after a step that went wrong.

No source of labels decides alone: where there are several, each of these must be shown without any single one of them.

Labels whose delay depends on their class come sooner for some classes than for others. After a ramp, rule C therefore
counts labels of settled events only, those so old that nine of ten labels have come; all others count every label at
once.

Asked after every label, 10,000 simulated runs each (`tests/rollout/test_paired_rule_rates.py`): equal and withdrawn
0.9 %; 5 points worse and promoted 0.07 % at most, 10 points worse 0; equal and not worse by the margin after 640, 1,220
and 2,340 labels (median) where the versions differ on 1, 5 and 10 % of them.

Rejected: an error of 0.5 % for withdrawal, which would take 460 labels instead of 396 (median) until a version that is
5 points worse and differs on 10 % of the labels is withdrawn. A reference that moves as soon as something is better: a
chain of versions that learns its classes would begin its evidence anew every few labels, and wait for it each time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from rollout.paired_evidence import PairedComparison, PairedEvidence
from rollout.statistics.clopper_pearson import lower_bound, upper_bound
from rollout.statistics.health import log_e_errors, log_e_slow
from rollout.statistics.paired import PairedTally, log_e_above, log_e_below, log_es_above
from rollout.statistics.sample_ratio import log_e_mismatch
from rollout.statistics.sources import log_e_of_means
from wire.records import ADDITIVE, NOT_WORSE, SUPERIOR, NameChanges, NewClass

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
"""Evidence that the version's line is worse than the reference, from which on no rule promotes at a publication."""

MAX_FLOOD: Final = 3.0
"""Largest share of the answers that a new class may take, in multiples of its share of the labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """The measured evidence: logarithms of e-values, but for the last four fields."""

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
    line_worse: float
    line_better: float
    """Evidence that the line of the version, those published last, is better than the reference."""
    line_not_worse: float
    changed: float
    """Upper 99 % bound of the share of texts that change between old classes."""
    forgotten: float
    """The same of texts whose label the reference names, and the version does not."""
    lost: float
    """Lower 99 % bound of the share of texts whose label the version before names, and the version does not."""
    flood: float
    """Largest share of the texts that a new class takes, in multiples of its share of the labels."""

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
    line = line_of(evidence.name_changes)
    if reason := _withdrawal(numbers):
        return Ruling("withdraw", "", f"{reason}, {evidence.stable.labels}", numbers)
    if reason := _objection(numbers):
        return Ruling("hold", "", reason, numbers)
    if max(numbers.changed, numbers.forgotten) <= MARGIN and numbers.flood <= MAX_FLOOD:
        return Ruling("promote", ADDITIVE, "it names old classes as the reference does", numbers)
    if numbers.line_better >= THRESHOLD:
        return Ruling("promote", SUPERIOR, f"its line is better than the reference, {line}", numbers)
    if numbers.better >= THRESHOLD:
        return Ruling("promote", SUPERIOR, f"it is better than the stable version, {evidence.stable.labels}", numbers)
    if numbers.line_not_worse >= THRESHOLD:
        return Ruling("promote", NOT_WORSE, f"its line is not worse than the reference by the margin, {line}", numbers)
    if min(numbers.not_worse, numbers.not_worse_than_reference) < THRESHOLD:
        return Ruling("hold", "", f"too close to call: {evidence.stable.labels}", numbers)
    if not evidence.is_exposed:
        return Ruling("hold", "", "it is not worse by the margin, and its ramp is not over", numbers)
    return Ruling("promote", NOT_WORSE, f"it is not worse by the margin, {evidence.stable.settled}", numbers)


def measure(evidence: PairedEvidence) -> Numbers:
    """Returns the numbers that the decision rests on."""
    stable = evidence.stable
    reference = evidence.reference
    changes = evidence.name_changes
    line = line_of(changes)
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
        line_worse=log_e_below(line, 0.0),
        line_better=log_e_above(line, 0.0),
        line_not_worse=log_e_above(line, -MARGIN),
        changed=_bound(changes.between_old, changes),
        forgotten=_bound(changes.forgotten, changes),
        lost=lower_bound(changes.lost, changes.texts, ERROR) if changes.lost else 0.0,
        flood=max((_flood(each, changes) for each in changes.new_classes), default=0.0),
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


def line_of(changes: NameChanges) -> PairedTally:
    """Returns the labelled events on which the line of a version was compared with the reference."""
    return PairedTally(changes.wins, changes.ties, changes.losses)


def is_next_reference(comparison: PairedComparison) -> bool:
    """Returns whether a version that was compared with the reference takes its place."""
    return comparison.labels.labels >= MIN_LABELS and shown_above(comparison, 0.0) >= THRESHOLD


def _bound(count: int, changes: NameChanges) -> float:
    """Returns the upper bound of the share of the texts of which `count` were found.

    Where each text gets the name of a new class there is nothing that could change: the reference knew none of them.
    """
    if 0 < changes.texts == changes.to_new and not count:
        return 0.0
    return upper_bound(count, changes.texts, ERROR)


def _flood(new: NewClass, changes: NameChanges) -> float:
    if not new.labels:
        return math.inf if new.texts else 0.0
    return (new.texts / max(1, changes.texts)) / (new.labels / changes.labels)


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
    if numbers.line_worse >= DOUBT:
        return "its line is worse than the reference"
    if numbers.lost > MARGIN:
        return "it has lost what the version before it names"
    if numbers.worst_group >= THRESHOLD:
        return "it is worse on a group of classes"
    if numbers.audited_worse >= THRESHOLD:
        return "it is worse on the events whose labels were asked for"
    if numbers.sources_worse >= THRESHOLD:
        return "it is worse by the sources of the labels, each counted once"
    return ""
