"""Promote a version at its publication, or not, by what its manifest says of it and the reference. Pure.

    NameChanges --measure--> PublicationNumbers --decide--> PublicationRuling

A version is promoted by the first of these rules that holds:

    A  additive    it names old classes nearly as the reference does, whatever it names by new ones: without labels
    B  superior    its line is better than the reference; with another encoder: on trial, or on the holdout
    C  not worse   its line is not worse than the reference by `MARGIN`; with another encoder: as for B

Rule A rests on an inequality: on events of old classes, accuracies cannot differ by more than the share of answers that
differ. So with changes within the margin it loses no more than rule C accepts. Names of classes that the reference
lacks are exceptions, of which labels must not say otherwise: neither the texts that the reference named rightly
(`forgotten`), nor the line. Its bound is for texts like the recent ones, so what it promoted is watched by
`rollout.statistics`.

The manifest of a version says how its line, the versions published before it, did on labelled events since the
reference was set, each label before it was learnt. These labels are judged when they come, not when they were asked
for, so rules B and C need no label of an event that the version itself answered. They are of its predecessors, so no
rule promotes a version that has `lost` what the one before it names rightly, as after a step that went wrong.

A version with another encoder, as a slow round makes it, has neither: no recent text is known under both encoders. It
is compared with the reference on the learner's holdout, labelled events that no version has learnt. So it becomes
stable where no label comes any more, too, and the versions after it are compared with it.

The holdout is the same, but for a few samples, for one encoder after another, and the learner's own gate has looked at
it before. So the encoders share the error: each has a part of it (`HELD_ERROR`), and those that the gate dropped would
have had theirs. By Ville's inequality that covers five encoders, each asked at any number of samples. Each is asked at
about one, where the error is a sixteenth of that: of twenty encoders that are worse by just the margin, any is promoted
in 0.3 % of 10,000 simulated runs (`tests/rollout/test_publication_rule_rates.py`). The versions of one encoder name
nearly the same samples rightly, and so count as one. No least number of samples is set: the fewest that promote are 14,
all won, or 485 without a difference.

The holdout is small while a stream is young. So the learner tries an encoder before it goes on with it: both heads name
each new label before they learn it, and the counts are in the manifest. No label of a trial was looked at before, so
its rules have the whole error. The encoder is compared with the head in use then, which is not worse than the reference
by more than the margin: together they may lose twice that. An encoder that is not worse is promoted by rule C only if
it lost no more labels than it won, so that a chain of encoders does not creep.

What the holdout does not say: its samples are balanced by class, not as frequent as the events; labels of all sources
are in it, none without another; and which events are labelled somebody has chosen. Of classes that the reference lacks
it says nothing: there the gate has compared the version with its parent.
"""

import math
from dataclasses import dataclass
from typing import Final

from rollout.paired_rule import DOUBT, ERROR, MARGIN, THRESHOLD, PairedComparison, is_next_reference
from rollout.statistics import PairedTally, exact_lower_bound, exact_upper_bound, log_e_above, log_e_below
from wire.records import ADDITIVE, NOT_WORSE, SUPERIOR, NameChanges, NewClass

HELD_ERROR: Final = ERROR / 5
"""Probability of each wrong verdict about one encoder by the holdout."""

HELD_THRESHOLD: Final = -math.log(HELD_ERROR)

MAX_FLOOD: Final = 3.0
"""Largest share of the answers that a new class may take, in multiples of its share of the labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationNumbers:
    """The measured evidence: logarithms of e-values, but for the last four fields."""

    trial_worse: float
    trial_better: float
    """Evidence that the encoder of the version is better than that of the reference, on the labels of its trial."""
    trial_not_worse: float

    line_worse: float
    line_better: float
    """Evidence that the line of the version, those published last, is better than the reference."""
    line_not_worse: float
    held_worse: float
    held_better: float
    """Evidence that the version, which has another encoder, is better than the reference on the holdout."""
    held_not_worse: float
    changed: float
    """Upper 99 % bound of the share of texts that change between old classes."""
    forgotten: float
    """The same of texts whose label the reference names, and the version does not."""
    lost: float
    """Lower 99 % bound of the share of texts whose label the version before names, and the version does not."""
    flood: float
    """Largest share of the texts that a new class takes, in multiples of its share of the labels."""


@dataclass(frozen=True, slots=True)
class PublicationRuling:
    """The rule that promotes ("": none does), the sentence that says why, and the numbers."""

    rule: str
    reason: str
    numbers: PublicationNumbers


def decide(changes: NameChanges) -> PublicationRuling:
    """Returns what follows from what the manifest says of a version."""
    numbers = measure(changes)
    line = line_of(changes)
    held = held_of(changes)
    trial = trial_of(changes)
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
    if numbers.held_better >= HELD_THRESHOLD:
        return PublicationRuling(SUPERIOR, f"it is better than the reference on the holdout, {held}", numbers)
    if numbers.held_not_worse >= HELD_THRESHOLD:
        reason = f"it is not worse than the reference by the margin on the holdout, {held}"
        return PublicationRuling(NOT_WORSE, reason, numbers)
    tally = max(line, held, trial, key=lambda each: each.labels)
    return PublicationRuling("", f"too close to call: {tally}", numbers)


def verdict(changes: NameChanges) -> bool | None:
    """Returns whether the counts promote a version (True), or stand against it (False); None: neither.

    The learner asks by it whether the encoder of a slow round has won its trial.

    >>> verdict(NameChanges(trial_wins=40)), verdict(NameChanges(trial_losses=40)), verdict(NameChanges(trial_wins=1))
    (True, False, None)
    """
    ruling = decide(changes)
    if ruling.rule:
        return True
    return False if objection(ruling.numbers) else None


def moves_reference(changes: NameChanges) -> bool:
    """Returns whether a version that is promoted takes the place of the reference.

    It does where it has another encoder, since no later version could be compared with the reference then, and where
    its line is better on many labels.
    """
    has_new_encoder = held_of(changes).labels + trial_of(changes).labels > 0
    return has_new_encoder or is_next_reference(PairedComparison(line_of(changes)))


def measure(changes: NameChanges) -> PublicationNumbers:
    """Returns the numbers that the decision rests on."""
    line = line_of(changes)
    held = held_of(changes)
    trial = trial_of(changes)
    return PublicationNumbers(
        trial_worse=log_e_below(trial, 0.0),
        trial_better=log_e_above(trial, 0.0),
        trial_not_worse=log_e_above(trial, -MARGIN),
        line_worse=log_e_below(line, 0.0),
        line_better=log_e_above(line, 0.0),
        line_not_worse=log_e_above(line, -MARGIN),
        held_worse=log_e_below(held, 0.0),
        held_better=log_e_above(held, 0.0),
        held_not_worse=log_e_above(held, -MARGIN),
        changed=_bound(changes.between_old, changes),
        forgotten=_bound(changes.forgotten, changes),
        lost=exact_lower_bound(changes.lost, changes.texts, ERROR) if changes.lost else 0.0,
        flood=max((_flood(each, changes) for each in changes.new_classes), default=0.0),
    )


def line_of(changes: NameChanges) -> PairedTally:
    """Returns the labelled events on which the line of a version was compared with the reference."""
    return PairedTally(changes.wins, changes.ties, changes.losses)


def held_of(changes: NameChanges) -> PairedTally:
    """Returns the holdout samples on which a version with another encoder was compared with the reference."""
    return PairedTally(changes.held_wins, changes.held_ties, changes.held_losses)


def trial_of(changes: NameChanges) -> PairedTally:
    """Returns the labelled events on which the encoder of a version was tried beside that of the reference."""
    return PairedTally(changes.trial_wins, changes.trial_ties, changes.trial_losses)


def _bound(count: int, changes: NameChanges) -> float:
    """Returns the upper bound of the share of the texts of which `count` were found: 1 where there are no texts.

    Where each text gets the name of a new class there is nothing that could change: the reference knew none of them.
    """
    if 0 < changes.texts == changes.to_new and not count:
        return 0.0
    return exact_upper_bound(count, changes.texts, ERROR)


def _flood(new: NewClass, changes: NameChanges) -> float:
    if not new.labels:
        return math.inf if new.texts else 0.0
    return (new.texts / max(1, changes.texts)) / (new.labels / changes.labels)


def objection(numbers: PublicationNumbers) -> str:
    """Returns why no rule may promote the version, "" where nothing stands against it."""
    if numbers.trial_worse >= DOUBT:
        return "its encoder was worse than the one before"
    if numbers.line_worse >= DOUBT:
        return "its line is worse than the reference"
    if numbers.held_worse >= DOUBT:
        return "it is worse than the reference on the holdout"
    if numbers.lost > MARGIN:
        return "it has lost what the version before it names"
    return ""
