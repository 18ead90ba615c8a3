"""The counts of labels by which versions are compared, and their stored records. No source of labels decides alone.

    label --SourceGroups--> group --PairCount--> PairedComparison     is one version better, worse, or not worse?
                                  --PairDetector--> has the newer version turned bad?
    label of an arm's own answer  --ArmCount---> ArmEvidence          the same for versions with another encoder

Each label is counted in the group of its source. A decision is made only if it would also be made without the labels of
any single group. If there is only one group, as on a laptop, all its labels count.
"""

from typing import Final, NamedTuple

import mmh3
import numpy as np

from rollout.paired_rule import PairedComparison
from rollout.statistics import (
    DETECTOR_START,
    LABELS_TO_FALSE_ALARM,
    NO_LABELS,
    Floats,
    PairedTally,
    advance_detector,
    log_e_value_change,
)
from rollout.unpaired_rule import ArmEvidence, ArmTally
from wire.rate_limits import MAX_NAME_CHARS
from wire.records import Record

NUM_GROUPS: Final = 32
NUM_OWN_GROUPS: Final = 16
"""Number of sources that have a group of their own: the first ones that send labels. Later sources share the other
groups, by the hash of their names."""

NUM_CLASS_GROUPS: Final = 16
"""Number of groups of classes. A class belongs to a group by the hash of its name. A version that is worse on any of
the groups is not promoted."""

MAX_WAITING: Final = 1_000
"""Most seconds for which a count keeps unsettled labels apart. If there are more, the labels of the oldest second are
merged into the next second."""


class SourceGroups:
    """Maps each source to its group, a number below NUM_GROUPS."""

    def __init__(self, names: tuple[str, ...] = ()) -> None:
        self._names = {name: group for group, name in enumerate(names)}

    def group(self, source: str) -> int:
        name = source[:MAX_NAME_CHARS]
        if name not in self._names and len(self._names) < NUM_OWN_GROUPS:
            self._names[name] = len(self._names)
        shared = NUM_OWN_GROUPS + mmh3.hash(name.encode(), signed=False) % (NUM_GROUPS - NUM_OWN_GROUPS)
        return self._names.get(name, shared)

    def export(self) -> tuple[str, ...]:
        return tuple(self._names)


class Difference(NamedTuple):
    """The outcome of one label for two versions.

    - `value`: 1 if only the newer version is right, -1 if only the older one is right, else 0.
    - `name`: the hash of the label.
    - `group`: the group of the label's source.
    - `answer_ms`: the time at which the label's event was answered.
    - `number`: the number of the label among all labels.
    """

    value: int
    name: int
    group: int
    answer_ms: int
    number: int


class PairCountState(Record, frozen=True, kw_only=True):
    """The labels of a pair of versions.

    - `since`: the number of the first label that may be counted.
    - `groups`, `classes`: all labels, by group of sources and by group of classes.
    - `settled`: the labels of settled events: events so old that most of their labels have come.
    - `settled_ms`: events that were answered before this time are settled.
    - `waiting`: the labels of events that are not settled yet, by the second in which the event was answered.
    """

    since: int = 0
    groups: tuple[tuple[int, PairedTally], ...] = ()
    classes: tuple[tuple[int, PairedTally], ...] = ()
    settled: PairedTally = NO_LABELS
    settled_ms: int = 0
    waiting: tuple[tuple[int, PairedTally], ...] = ()


class PairCount:
    """Wins, ties and losses of a newer version against an older one.

    Verbs: add, remove, settle_events, comparison, export.
    """

    def __init__(self, state: PairCountState | None = None) -> None:
        state = state or PairCountState()
        self._since = state.since
        self._groups = dict(state.groups)
        self._classes = dict(state.classes)
        self._settled = state.settled
        self._settled_ms = state.settled_ms
        self._waiting = dict(state.waiting)

    @property
    def labels(self) -> PairedTally:
        return sum(self._groups.values(), NO_LABELS)

    def add(self, difference: Difference) -> None:
        """Counts a label by its difference."""
        tally = PairedTally.from_differences([difference.value])
        _add(self._groups, difference.group, tally)
        _add(self._classes, difference.name % NUM_CLASS_GROUPS, tally)
        _add(self._waiting, difference.answer_ms // 1_000, tally)
        if len(self._waiting) > MAX_WAITING:
            oldest = self._waiting.pop(min(self._waiting))
            _add(self._waiting, min(self._waiting), oldest)

    def remove(self, difference: Difference) -> None:
        """Removes a corrected label, unless it came before the count began."""
        if difference.number < self._since:
            return
        tally = PairedTally.from_differences([difference.value])
        _subtract(self._groups, difference.group, tally)
        _subtract(self._classes, difference.name % NUM_CLASS_GROUPS, tally)
        second = difference.answer_ms // 1_000
        if second not in self._waiting and (second + 1) * 1_000 > self._settled_ms:
            second = min((later for later in self._waiting if later > second), default=second)
        if second in self._waiting:
            _subtract(self._waiting, second, tally)
        else:
            self._settled -= tally

    def settle_events(self, before_ms: int) -> None:
        """Adds the labels of events that were answered before `before_ms` to the settled labels."""
        self._settled_ms = max(self._settled_ms, before_ms)
        for second in [second for second in self._waiting if (second + 1) * 1_000 <= before_ms]:
            self._settled += self._waiting.pop(second)

    def comparison(self) -> PairedComparison:
        return PairedComparison(self.labels, self._settled, tuple(self._groups.values()))

    @property
    def class_groups(self) -> tuple[PairedTally, ...]:
        return tuple(self._classes.values())

    def export(self) -> PairCountState:
        return PairCountState(
            since=self._since,
            groups=tuple(self._groups.items()),
            classes=tuple(self._classes.items()),
            settled=self._settled,
            settled_ms=self._settled_ms,
            waiting=tuple(self._waiting.items()),
        )


def _add(tallies: dict[int, PairedTally], key: int, tally: PairedTally) -> None:
    tallies[key] = tallies.get(key, NO_LABELS) + tally


def _subtract(tallies: dict[int, PairedTally], key: int, tally: PairedTally) -> None:
    """Subtracts from the tally at `key`. An empty group is removed, so that no decision waits for its labels."""
    _add(tallies, key, NO_LABELS - tally)
    if tallies[key] == NO_LABELS:
        del tallies[key]


class PairDetectorState(Record, frozen=True, kw_only=True):
    """The state of the e-detectors: the logarithm of each bet's wealth.

    - `without`: for each group of sources, the detector that leaves out the labels of this group.
    - `every`: the detector that sees all labels.
    """

    without: tuple[tuple[int, tuple[float, ...]], ...] = ()
    every: tuple[float, ...] = tuple(DETECTOR_START.tolist())


class PairDetector:
    """Detects that the newer version of a pair turned bad (CUSUM e-detectors). Verbs: add, export.

    For each group of sources, an e-detector (`rollout/statistics.py`) sees the labels of all other groups. The alarm is
    raised only if all of these detectors raise it, so no group can raise it alone. If there is only one group, a
    detector that sees all labels decides.
    """

    def __init__(self, state: PairDetectorState | None = None) -> None:
        state = state or PairDetectorState()
        self._all_groups: Floats = np.array(state.every)
        self._without_group: dict[int, Floats] = {group: np.array(wealth) for group, wealth in state.without}

    def add(self, difference: int, *, group: int) -> None:
        """Adds the next label. Labels are added in the order in which they come, which is nearly the order of their
        events."""
        if group not in self._without_group:
            # The detector without this group has seen the labels of all groups so far.
            self._without_group[group] = self._all_groups
        for other, log_wealth in self._without_group.items():
            if other != group:
                self._without_group[other] = advance_detector(log_wealth, difference)
        self._all_groups = advance_detector(self._all_groups, difference)

    @property
    def log_e(self) -> float:
        """The logarithm of the lowest e-detector: the one without the group that contributes most evidence."""
        states = [*self._without_group.values()] if len(self._without_group) > 1 else [self._all_groups]
        return float(log_e_value_change(np.stack(states)).min())

    @property
    def is_alarm(self) -> bool:
        return self.log_e >= float(np.log(LABELS_TO_FALSE_ALARM))

    def export(self) -> PairDetectorState:
        without = tuple((group, _rounded(log_wealth)) for group, log_wealth in self._without_group.items())
        return PairDetectorState(without=without, every=_rounded(self._all_groups))


def _rounded(log_wealth: Floats) -> tuple[float, ...]:
    return tuple(np.round(log_wealth, 4).tolist())


class ArmCountState(Record, frozen=True, kw_only=True):
    """The labels of both arms, each for an answer of the arm itself.

    `first` is the number of the first label for a newer version's answer, and `since_ms` is the time of that answer.
    Both are 0 if there is no such label yet.
    """

    evidence: ArmEvidence = ArmEvidence()
    since_ms: int = 0
    first: int = 0


class ArmCount:
    """Counts the labels of both arms under one stable version. Verbs: add, remove, export.

    Labels of the stable arm count only from the time of the first labelled answer of a newer version, so that both arms
    are compared over the same period. When a label is corrected, its number shows whether it was counted.
    """

    def __init__(self, state: ArmCountState | None = None) -> None:
        state = state or ArmCountState()
        self.evidence = state.evidence
        self._since_ms = state.since_ms
        self._first = state.first

    def add(self, is_right: bool, *, is_newer: bool, answer_ms: int, number: int) -> None:
        """Counts a label: of a newer version's answer if `is_newer`, else of the stable version's answer."""
        if is_newer and not self._first:
            self._since_ms = answer_ms
            self._first = number
        if self._is_counted(is_newer, answer_ms, number):
            self._add_tally(ArmTally(1, int(is_right)), is_newer)

    def remove(self, is_right: bool, *, is_newer: bool, answer_ms: int, number: int) -> None:
        """Removes a corrected label, if it was counted."""
        if self._is_counted(is_newer, answer_ms, number):
            self._add_tally(ArmTally(-1, -int(is_right)), is_newer)

    def export(self) -> ArmCountState:
        return ArmCountState(evidence=self.evidence, since_ms=self._since_ms, first=self._first)

    def _is_counted(self, is_newer: bool, answer_ms: int, number: int) -> bool:
        if not 0 < self._first <= number:
            return False
        return is_newer or self._since_ms <= answer_ms

    def _add_tally(self, tally: ArmTally, is_newer: bool) -> None:
        before = self.evidence
        if is_newer:
            self.evidence = ArmEvidence(before.stable, before.candidate + tally)
        else:
            self.evidence = ArmEvidence(before.stable + tally, before.candidate)
