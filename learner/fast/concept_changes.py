"""Notices that a class means something else now: its newest labels name texts better than all of its labels do.

    z of a label --nearest class mean of all labels, and of the newest--> right or wrong --> evidence of its classes
    evidence >= EVIDENCE --> ConceptChange: the class goes on with what was labelled since

Each label is named twice before it is learnt: by the nearest class mean of all labels, and by that of the newest ones
(`learner.fast.recent_labels`). Where exactly one of the two is right, the label is a win of the newest or a loss. It
counts for the class that it names, and for the class that was named wrongly in its place, from which the texts may have
gone. Without a change the newest labels lose: eight labels of a class name a text worse than a hundred. So a bet on
them, which multiplies its capital by 1 + BET at a win and by 1 - BET at a loss, is a supermartingale, and its capital
exceeds EVIDENCE by chance with a probability of at most 1 / EVIDENCE (Ville 1939; testing by betting, Waudby-Smith and
Ramdas 2020, arXiv:2010.09686). The bet starts anew where its capital has fallen to 1, as in the CUSUM chart of Page
(1954): a class that has been stable for long is as quick to change as a young one.

With few classes the head as it was solved last names them, too (`learner.fast.fading`). Where that is right, so are all
labels, whatever their means say: in a series the next label is mostly that of the last rows, so the newest means are
right more often, and a class would restart whenever the weather changes.

No source decides alone. Each counts up to an equal part of the evidence (`num_sources` parts make it whole), so as many
sources have to agree; a label that an operator approved counts in full. What a single source claims is an attack, which
the flip alarm holds (`learner.labels.flip_detector`).

Measured on CLINC150 with a frozen encoder, in mixed order (`make bench ONLY=concept_change`): without a change no class
changes. Where 45 of the 150 classes swap names after half of the labels, exactly these are found to have changed, and
after 20 labels of each class since then they are named as well as by a learner that knows nothing else.

Rejected: sums of several lengths (all labels, the last 10,000, the last 1,000) whose weights follow their losses. After
a change the last 1,000 labels are 7 of each of 150 classes, and the last 10,000 are of the old concept for 10,000
labels more, while what was learnt since the change is all that a new learner would know. Also rejected: ADWIN on the
errors of a class, which says that something is wrong, and not that the newest labels are any better.
"""

from collections.abc import Iterable, Iterator, Mapping
from math import log
from typing import Any, Final, NamedTuple

import msgspec

from learner.fast.directions import Nearest
from learner.labels.sample import Sample
from wire.records import ConceptChange
from wire.targets import kind_of

EVIDENCE: Final = 100.0
"""The evidence at which a class has changed."""

BET: Final = 0.95
"""The share of the capital that is bet on the newest labels."""

FACTORS: Final = {(False, True): 1 + BET, (True, False): 1 - BET, (True, True): 0.95, (False, False): 1.0}
"""What a label multiplies the capital by, where the means of all labels and those of the newest are right or not.

A label that both name rightly takes a little, so that a win of long ago is forgotten: a change is dated by the first.
"""

MIN_LABELS: Final = 3
"""Labels that a class must have had since it changed. Texts of a new class that are named like an old one, which is not
labelled meanwhile, say nothing about the old one."""

MAX_SOURCES: Final = 16
"""The most sources whose evidence on a class is told apart; all others count as one."""

APPROVED: Final = "approved"
OTHERS: Final = "others"


class Observation(NamedTuple):
    """A label about an event of `time_ms`, and the classes that the means of all labels and of the newest ones name."""

    label: str
    by_all: str
    by_newest: str
    time_ms: int
    source: str = ""
    is_approved: bool = False


class Evidence(msgspec.Struct, array_like=True):
    """The evidence that a class has changed at `since_ms`: the logarithm of the capital, by source.

    `num_labels` counts the labels of the class that were named wrongly since the first win.
    """

    since_ms: int
    by_source: dict[str, float]
    num_labels: int = 0


class ConceptChangesState(msgspec.Struct, frozen=True, kw_only=True):
    """Holds everything that a `ConceptChanges` knows.

    `wrong_since_ms` has the classes whose last labels were all named wrongly by the means of all labels, and when that
    began: a change is noticed when the newest labels are right, but it came before. `changed_ms` has the times since
    which the classes that have changed mean what they mean now.
    """

    evidence: dict[str, Evidence] = {}
    wrong_since_ms: dict[str, int] = {}
    changed_ms: dict[str, int] = {}


class ConceptChanges:
    """Holds the evidence that classes have changed. A change is believed when `num_sources` sources agree."""

    def __init__(self, num_sources: int, state: ConceptChangesState | None = None) -> None:
        state = state or ConceptChangesState()
        self._part = log(EVIDENCE) / num_sources
        self._evidence = {label: _copy(each) for label, each in state.evidence.items()}
        self._wrong_since_ms = dict(state.wrong_since_ms)
        self._changed_ms = dict(state.changed_ms)

    def add(self, observations: Iterable[Observation]) -> None:
        """Counts labels that are about to be learnt."""
        for observation in observations:
            is_right = observation.by_all == observation.label
            is_newest_right = observation.by_newest == observation.label
            for label in {observation.label, observation.by_all}:
                if is_right:
                    self._wrong_since_ms.pop(label, None)
                else:
                    self._wrong_since_ms.setdefault(label, observation.time_ms)
            factor = FACTORS[is_right, is_newest_right]
            for label in {observation.label, observation.by_all, observation.by_newest}:
                self._bet(label, observation, log(factor))

    def found(self, offsets: Mapping[str, int]) -> list[ConceptChange]:
        """Returns the changes for which there is enough evidence, as found behind the records below `offsets`."""
        enough = log(EVIDENCE) - 1e-9  # as many parts as sources make it up, but for rounding
        found = [
            label
            for label, each in self._evidence.items()
            if sum(each.by_source.values()) >= enough and each.num_labels >= MIN_LABELS
        ]
        return [ConceptChange(label, self._evidence[label].since_ms, dict(offsets)) for label in sorted(found)]

    def follow(self, change: ConceptChange) -> None:
        """Takes note that a class means something else since then."""
        self.forget(change.label)
        self._changed_ms[change.label] = change.since_ms

    def is_outdated(self, label: str, time_ms: int) -> bool:
        """Whether a label about an event of `time_ms` is from before its class changed."""
        return time_ms < self._changed_ms.get(label, 0)

    def rename(self, label: str, name: str) -> None:
        """Gives a class another name. Where that is one of a class, what was known of both is forgotten."""
        tables: tuple[dict[str, Any], ...] = (self._evidence, self._wrong_since_ms, self._changed_ms)
        is_taken = any(name in table for table in tables)
        for table in tables:
            value = table.pop(label, None)
            if value is not None and not is_taken:
                table[name] = value
        if is_taken:
            self.forget(name)

    def forget(self, label: str) -> None:
        """Forgets a class."""
        for by_label in (self._evidence, self._wrong_since_ms, self._changed_ms):
            by_label.pop(label, None)

    def export(self) -> ConceptChangesState:
        evidence = {label: _copy(each) for label, each in self._evidence.items()}
        return ConceptChangesState(
            evidence=evidence, wrong_since_ms=dict(self._wrong_since_ms), changed_ms=dict(self._changed_ms)
        )

    def _bet(self, label: str, observation: Observation, gain: float) -> None:
        since_ms = self._wrong_since_ms.get(label, observation.time_ms)
        evidence = self._evidence.setdefault(label, Evidence(since_ms, {}))
        source = APPROVED if observation.is_approved else f"by {observation.source}"
        if source not in evidence.by_source and len(evidence.by_source) >= MAX_SOURCES:
            source = OTHERS
        most = log(EVIDENCE) if observation.is_approved else self._part
        evidence.by_source[source] = min(evidence.by_source.get(source, 0.0) + gain, most)
        evidence.num_labels += label == observation.label != observation.by_all
        if sum(evidence.by_source.values()) <= 0:
            del self._evidence[label]


def _copy(evidence: Evidence) -> Evidence:
    return msgspec.structs.replace(evidence, by_source=dict(evidence.by_source))


def observations(
    samples: Iterable[Sample | None], nearest: Nearest, is_named_B: Iterable[bool]
) -> Iterator[Observation]:
    """Yields the observations of samples as they were named.

    None, a text that nobody labelled, is no observation. Neither is a set of labels or a score, of no nearest class. A
    label that the head named rightly (`is_named_B`, where that is known) is right by all labels.
    """
    for sample, by_all, by_newest, is_named in zip(samples, nearest.by_all, nearest.by_newest, is_named_B, strict=True):
        if sample is not None and kind_of(sample.label) == "class":
            by_all = sample.label if is_named else by_all
            yield Observation(sample.label, by_all, by_newest, sample.answer_time_ms, sample.source, sample.is_approved)
