"""Drift: whether the stream has changed so that answers got worse, or texts come from elsewhere.

    given answers --wrong: 1, right: 0--> "error" and, by class, "classes 1-16", ... --.
                                                                                       >-- ADWIN --> Drift
    learnt texts --distance to the nearest class mean--> "distance" -------------------'

ADWIN (Bifet and Gavalda 2007, here river's) keeps a window whose mean has not changed, and drops the older part when
the two differ by more than chance. Only a rise is drift: errors and distances fall because something is learnt. Classes
are grouped in the order in which they came, so where a stream grows stage by stage, a group is about a stage.

What ADWIN knows cannot be written down without pickling. So it is, by definition, what it makes of its journal: the
values since its last detection, bounded; a full journal loses its older half. A checkpoint holds the journals, and a
restored detector is fed with them.

Rejected: Page-Hinkley (its threshold is a sum of values, another one for every signal and error rate), KSWIN (compares
random draws), and the score of an answer as a signal (each new version moves it).
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import numpy as np
import structlog
from river.drift import ADWIN
from torch import Tensor

from learner.labels.sample import Sample
from wire.records import Drift

ERROR = "error"
CLASSES = "classes"
DISTANCE = "distance"

JOURNAL: Final = 2_000
"""Values in a full journal. A change that takes longer to be seen is none that would hurry anything."""

CLOCK: Final = 8
"""Values between two tests of ADWIN."""

GROUP: Final = 16
"""Classes of one signal."""

RECENT: Final = 8
"""Drifts that are shown."""

log = structlog.get_logger("learner")


class DriftState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a `DriftWatch` knows; `journals` by signal."""

    journals: dict[str, list[float]] = {}
    recent: list[Drift] = []
    counts: dict[str, int] = {}
    num_answers: int = 0
    is_urgent: bool = False


class Detector:
    """ADWIN on one signal. `journal` is all that it knows."""

    def __init__(self, delta: float, journal: Iterable[float] = ()) -> None:
        self._delta = delta
        self._restart(journal)

    def add(self, value: float) -> tuple[float, float] | None:
        """The mean before and after, when `value` shows that it has risen."""
        self.journal.append(value)
        self._adwin.update(value)
        if self._adwin.drift_detected:
            before, after = levels(self.journal)
            self._restart()
            return (before, after) if after > before else None
        if len(self.journal) == JOURNAL:
            self._restart(self.journal[JOURNAL // 2 :])
        return None

    def _restart(self, journal: Iterable[float] = ()) -> None:
        self.journal = list(journal)
        self._adwin = ADWIN(delta=self._delta, clock=CLOCK)
        for value in self.journal:
            self._adwin.update(value)


class DriftWatch:
    """A detector for every signal. `is_urgent`: drift was found, and no slow round has begun since."""

    def __init__(self, *, delta: float, state: DriftState | None = None) -> None:
        self._delta = delta
        state = state or DriftState()
        self._detectors = {signal: Detector(delta, journal) for signal, journal in state.journals.items()}
        self.recent = deque(state.recent, maxlen=RECENT)
        self.counts: Counter[str] = Counter(state.counts)
        self._num_answers = state.num_answers
        self.is_urgent = state.is_urgent
        self._num_new = 0

    def add_answers(self, samples: Iterable[Sample], classes: Sequence[str]) -> None:
        """Take in whether each answer was right. `classes` are those known by now, in the order in which they came."""
        rows = {label: row for row, label in enumerate(classes)}
        for sample in samples:
            self._num_answers += 1
            error = float(not sample.is_correct)
            self._add(ERROR, error)
            if (row := rows.get(sample.label)) is not None:
                self._add(_group(row), error)

    def add_texts(self, distances_B: Tensor) -> None:
        """Take in how far each text was from the nearest class mean."""
        for distance in distances_B.tolist():
            self._add(DISTANCE, distance)

    def new_encoder(self) -> None:
        """From now on distances are measured otherwise."""
        self._detectors.pop(DISTANCE, None)

    def take_found(self) -> int:
        """How many drifts were found since this was last asked."""
        found = self._num_new
        self._num_new = 0
        return found

    def export(self) -> DriftState:
        return DriftState(
            journals={signal: list(detector.journal) for signal, detector in self._detectors.items()},
            recent=list(self.recent),
            counts=dict(self.counts),
            num_answers=self._num_answers,
            is_urgent=self.is_urgent,
        )

    def _add(self, signal: str, value: float) -> None:
        if not self._delta:
            return
        if signal not in self._detectors:
            self._detectors[signal] = Detector(self._delta)
        if (means := self._detectors[signal].add(value)) is None:
            return
        drift = Drift(signal=signal, at_label=self._num_answers, before=means[0], after=means[1])
        self.counts[f"drift_{signal.split()[0]}"] += 1
        self.recent.append(drift)
        self.is_urgent = True
        self._num_new += 1
        log.warning("drift", signal=signal, at_label=drift.at_label, before=drift.before, after=drift.after)


def levels(values: Sequence[float]) -> tuple[float, float]:
    """The means before and after the place where these two differ most, in standard errors.

    >>> levels([0.0, 0.5, 0.5, 3.0, 2.0])
    (0.3333333333333333, 2.5)
    """
    sums = np.cumsum(values)
    num = len(values)
    places = np.arange(1, num)
    before = sums[:-1] / places
    after = (sums[-1] - sums[:-1]) / (num - places)
    place = np.argmax(np.abs(after - before) * np.sqrt(places * (num - places)))
    return float(before[place]), float(after[place])


def _group(row: int) -> str:
    """The signal of a class.

    >>> _group(0), _group(31)
    ('classes 1-16', 'classes 17-32')
    """
    first = row - row % GROUP
    return f"{CLASSES} {first + 1}-{first + GROUP}"
