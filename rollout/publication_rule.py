"""Decides from a version's manifest whether the version becomes stable at its publication. Pure.

    NameChanges --measure--> PublicationNumbers --decide--> PublicationRuling

A version is promoted by the first of these rules that holds:

    A  additive    on texts of old classes it answers nearly as the reference; needs no labels
    B  superior    its line is better than the reference; with another encoder: better in its trial, or on the holdout
    C  not worse   its line is not worse than the reference by `MARGIN`; with another encoder: in its trial, or on the
                   holdout

**Rule A** rests on an inequality: on events of old classes, the accuracies of two versions cannot differ by more than
the share of answers that differ. So if at most `MARGIN` of the answers change, the version loses no more than rule C
accepts. Answers that change to a new class, which the reference lacks, are not part of this share. But labels must not
contradict them: neither the labels of texts that the reference predicted correctly (`forgotten`), nor the labels of the
line. The bound holds only for texts like the recent ones, so a version that was promoted by rule A is watched by the
e-detector of `rollout.statistics`.

**The line** of a version is the sequence of versions that were published before it. For each label since the reference
was set, the learner compares the newest version of that time with the reference, before it learns the label. The
manifest has the sums. So rules B and C need no label for an answer of the version itself. Because these labels are
about the version's predecessors, no rule promotes a version that has `lost` texts that its predecessor predicts
correctly, for example after a failed learning step.

**The holdout** decides about a version with another encoder, which a slow round makes. Such a version has no line and
no recent texts under both encoders. It is compared with the reference on the learner's holdout: labelled events that no
version has learnt. So it becomes stable even if no more labels come, and the versions after it are compared with it.

Successive encoders are compared on nearly the same holdout samples, and the learner's gate has used these samples
before. So the encoders share the error probability: each of them gets `HOLDOUT_ERROR`, also encoders that the gate
drops. By Ville's inequality this covers five encoders, each tested at any number of samples. In practice each encoder
is tested at about one number of samples, where the error is a sixteenth as large: of twenty encoders that are worse by
exactly the margin, any is promoted in 0.3 % of 10,000 simulated runs (`tests/rollout/test_publication_rule_rates.py`).
The versions of one encoder predict nearly the same on the holdout, so they count as one. There is no minimum number of
samples. The fewest that promote are 14 wins, or 485 ties.

**The trial** is needed because the holdout is small while a stream is young. Before the learner continues with a new
encoder, the heads of both encoders predict each new label before they learn it. The manifest has the outcome. No label
of a trial was used before, so the trial gets the whole error probability. The new encoder is compared with the encoder
in use, which is at most the margin worse than the reference, so in total it may lose twice the margin. Rule C promotes
an encoder by its trial only if it won at least as many labels as it lost, so that the accuracy does not fall from
encoder to encoder.

Limits of the holdout:

- Its samples are balanced by class, not as frequent as the events.
- It mixes the labels of all sources, and no source is left out in turn.
- Its labels exist only for events that someone chose to label.
- It says nothing about classes that the reference lacks. For them, the gate has compared the version with its parent.
"""

import math
from dataclasses import dataclass
from typing import Final

from rollout.paired_rule import DOUBT_THRESHOLD, ERROR, MARGIN, THRESHOLD, PairedComparison, is_next_reference
from rollout.statistics import PairedTally, exact_lower_bound, exact_upper_bound, log_e_value_above, log_e_value_below
from wire.records import ADDITIVE, NOT_WORSE, SUPERIOR, NameChanges, NewClass

HOLDOUT_ERROR: Final = ERROR / 5
"""Probability of each wrong conclusion about one encoder from the holdout."""

HOLDOUT_THRESHOLD: Final = -math.log(HOLDOUT_ERROR)

MAX_FLOOD: Final = 3.0
"""How many times its share of the labels a new class may have as its share of the answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationNumbers:
    """The measured evidence about a version: logarithms of e-values, except for the last four fields."""

    trial_worse: float
    trial_better: float
    """Evidence that the version's encoder is better than the reference's encoder, by the labels of its trial."""
    trial_not_worse: float

    line_worse: float
    line_better: float
    """Evidence that the version's line, the versions published before it, is better than the reference."""
    line_not_worse: float
    held_worse: float
    held_better: float
    """Evidence that the version, which has another encoder, is better than the reference on the holdout."""
    held_not_worse: float
    changed: float
    """Upper 99 % bound of the share of texts whose answer changes from one old class to another."""
    forgotten: float
    """Upper 99 % bound of the share of texts that the reference predicts correctly and the version does not."""
    lost: float
    """Lower 99 % bound of the share of texts that the previous version predicts correctly and this version does not."""
    flood: float
    """The largest ratio, over the new classes, of the share of the texts that get the class to the share of the labels
    that name it."""


@dataclass(frozen=True, slots=True)
class PublicationRuling:
    """The decision. `rule` names the rule that promotes ("": none does), and `reason` is a sentence."""

    rule: str
    reason: str
    numbers: PublicationNumbers


def decide(changes: NameChanges) -> PublicationRuling:
    """Returns the decision that follows from a version's manifest."""
    numbers = measure(changes)
    line = line_tally(changes)
    holdout = holdout_tally(changes)
    trial = trial_tally(changes)
    if reason := objection(numbers):
        return PublicationRuling("", reason, numbers)
    if max(numbers.changed, numbers.forgotten) <= MARGIN and numbers.flood <= MAX_FLOOD:
        return PublicationRuling(ADDITIVE, "it names old classes as the reference does", numbers)
    if numbers.line_better >= THRESHOLD:
        return PublicationRuling(SUPERIOR, f"its line is better than the reference, {line}", numbers)
    if numbers.line_not_worse >= THRESHOLD:
        return PublicationRuling(NOT_WORSE, f"its line is not worse than the reference by the margin, {line}", numbers)
    if numbers.trial_better >= THRESHOLD:
        return PublicationRuling(SUPERIOR, f"its encoder was better than the one before, {trial}", numbers)
    if numbers.trial_not_worse >= THRESHOLD and trial.wins >= trial.losses:
        reason = f"its encoder was not worse than the one before by the margin, {trial}"
        return PublicationRuling(NOT_WORSE, reason, numbers)
    if numbers.held_better >= HOLDOUT_THRESHOLD:
        return PublicationRuling(SUPERIOR, f"it is better than the reference on the holdout, {holdout}", numbers)
    if numbers.held_not_worse >= HOLDOUT_THRESHOLD:
        reason = f"it is not worse than the reference by the margin on the holdout, {holdout}"
        return PublicationRuling(NOT_WORSE, reason, numbers)
    tally = max(line, holdout, trial, key=lambda each: each.labels)
    return PublicationRuling("", f"too close to call: {tally}", numbers)


def verdict(changes: NameChanges) -> bool | None:
    """Returns True if the counts promote a version, False if they are an objection to it, and None otherwise.

    The learner uses it to decide whether the encoder of a slow round has won its trial.

    >>> verdict(NameChanges(trial_wins=40)), verdict(NameChanges(trial_losses=40)), verdict(NameChanges(trial_wins=1))
    (True, False, None)
    """
    ruling = decide(changes)
    if ruling.rule:
        return True
    return False if objection(ruling.numbers) else None


def moves_reference(changes: NameChanges) -> bool:
    """Returns whether a promoted version becomes the reference, too.

    It does if it has another encoder, since no later version could be compared with the reference otherwise, or if its
    line is better on many labels.
    """
    has_new_encoder = holdout_tally(changes).labels + trial_tally(changes).labels > 0
    return has_new_encoder or is_next_reference(PairedComparison(line_tally(changes)))


def measure(changes: NameChanges) -> PublicationNumbers:
    """Returns the numbers on which the decision is based."""
    line = line_tally(changes)
    holdout = holdout_tally(changes)
    trial = trial_tally(changes)
    return PublicationNumbers(
        trial_worse=log_e_value_below(trial, 0.0),
        trial_better=log_e_value_above(trial, 0.0),
        trial_not_worse=log_e_value_above(trial, -MARGIN),
        line_worse=log_e_value_below(line, 0.0),
        line_better=log_e_value_above(line, 0.0),
        line_not_worse=log_e_value_above(line, -MARGIN),
        held_worse=log_e_value_below(holdout, 0.0),
        held_better=log_e_value_above(holdout, 0.0),
        held_not_worse=log_e_value_above(holdout, -MARGIN),
        changed=_bound(changes.between_old, changes),
        forgotten=_bound(changes.forgotten, changes),
        lost=exact_lower_bound(changes.lost, changes.texts, ERROR) if changes.lost else 0.0,
        flood=max((_flood(new_class, changes) for new_class in changes.new_classes), default=0.0),
    )


def line_tally(changes: NameChanges) -> PairedTally:
    """Returns the comparison of a version's line with the reference, on labelled events."""
    return PairedTally(changes.wins, changes.ties, changes.losses)


def holdout_tally(changes: NameChanges) -> PairedTally:
    """Returns the comparison of a version with another encoder with the reference, on holdout samples."""
    return PairedTally(changes.held_wins, changes.held_ties, changes.held_losses)


def trial_tally(changes: NameChanges) -> PairedTally:
    """Returns the comparison of the version's encoder with the previous encoder, on the labels of its trial."""
    return PairedTally(changes.trial_wins, changes.trial_ties, changes.trial_losses)


def _bound(count: int, changes: NameChanges) -> float:
    """Returns an upper bound of a share of texts, of which `count` were seen; 1 if there are no texts.

    It is 0 if the version predicts a new class for every text, because then no text keeps an old class that could
    change.
    """
    if 0 < changes.texts == changes.to_new and not count:
        return 0.0
    return exact_upper_bound(count, changes.texts, ERROR)


def _flood(new: NewClass, changes: NameChanges) -> float:
    if not new.labels:
        return math.inf if new.texts else 0.0
    return (new.texts / max(1, changes.texts)) / (new.labels / changes.labels)


def objection(numbers: PublicationNumbers) -> str:
    """Returns the reason why no rule may promote the version, "" if there is none."""
    if numbers.trial_worse >= DOUBT_THRESHOLD:
        return "its encoder was worse than the one before"
    if numbers.line_worse >= DOUBT_THRESHOLD:
        return "its line is worse than the reference"
    if numbers.held_worse >= DOUBT_THRESHOLD:
        return "it is worse than the reference on the holdout"
    if numbers.lost > MARGIN:
        return "it has lost what the version before it names"
    return ""
