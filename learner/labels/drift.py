"""Drift: detects that answers got worse, or that texts come from elsewhere.

    served answers --wrong: 1, right: 0--> "error" and, by class, "classes 1-16", ... --.
                                                                                        >-- ADWIN --> Drift
    learnt texts --distance to the nearest class mean--> "distance" --------------------'

ADWIN (Bifet and Gavalda 2007, here river's) keeps a window whose mean has not changed, and drops the older part when
the means of the two parts differ by more than chance. Only a rise is drift: errors and distances fall because something
is learnt. How far the distances have risen says how deep the next round trains (`learner.tiers`). Classes are grouped
in the order in which they came, so where a stream grows stage by stage, the classes of a group come from about one
stage.

ADWIN's state can only be written by pickling. So a detector is defined by its journal: the values since its last
detection, at most MAX_JOURNAL; a full journal drops its older half. A checkpoint holds the journals, and a restored
detector is rebuilt by replaying its journal.

Rejected: Page-Hinkley (its threshold is a sum of values, another one for every signal and error rate), KSWIN (compares
random draws), and the score of an answer as a signal (each new version moves it).
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
import structlog
from river.drift import ADWIN
from torch import Tensor

from learner.labels.sample import Sample
from learner.tiers import freeze, unfreeze
from wire.records import TIERS, Drift, RoundKind
from wire.targets import names_of

ERROR = "error"
CLASSES = "classes"
DISTANCE = "distance"

MAX_JOURNAL: Final = 2_000
"""Number of values in a full journal. A change that takes longer to detect is too slow to hurry a slow round."""

CLOCK: Final = 8
"""Number of values between two tests of ADWIN."""

GROUP_SIZE: Final = 16
"""Number of classes whose errors are one signal."""

RECENT: Final = 8
"""Number of last drifts that are shown."""

MIN_DEVIATION: Final = 0.01
"""Standard deviation of a signal at least, so that the effect size of a rise is finite where nothing else varies."""

log = structlog.get_logger("learner")


class DriftState(msgspec.Struct, frozen=True, kw_only=True):
    """Holds everything that a `DriftWatch` knows; `journals` by signal, tiers as places in TIERS."""

    journals: dict[str, list[float]] = {}
    recent: list[Drift] = []
    counts: dict[str, int] = {}
    num_answers: int = 0
    is_urgent: bool = False
    tier: int = 0
    rehearsal_tier: int = 0


class Rise(NamedTuple):
    """The means of a signal before and after a change, and the difference in standard deviations (Cohen's d)."""

    before: float
    after: float
    effect: float


class Detector:
    """Runs ADWIN on one signal. `journal` is its whole state."""

    def __init__(self, delta: float, journal: Iterable[float] = ()) -> None:
        self._delta = delta
        self._restart(journal)

    def add(self, value: float) -> Rise | None:
        """Adds a value; returns the rise that it reveals, None where it reveals none."""
        self.journal.append(value)
        self._adwin.update(value)
        if self._adwin.drift_detected:
            rise = split(self.journal)
            self._restart()
            return rise if rise.effect > 0 else None
        if len(self.journal) == MAX_JOURNAL:
            self._restart(self.journal[MAX_JOURNAL // 2 :])
        return None

    def _restart(self, journal: Iterable[float] = ()) -> None:
        self.journal = list(journal)
        self._adwin = ADWIN(delta=self._delta, clock=CLOCK)
        for value in self.journal:
            self._adwin.update(value)


class DriftWatch:
    """Holds a detector for every signal. `is_urgent`: drift was detected, and no slow round has begun since.

    `tier` and `rehearsal_tier` are the places in TIERS of what the next round on labels trains, and the next rehearsal.
    """

    def __init__(self, *, delta: float, state: DriftState | None = None) -> None:
        self._delta = delta
        state = state or DriftState()
        self._detectors = {signal: Detector(delta, journal) for signal, journal in state.journals.items()}
        self.recent = deque(state.recent, maxlen=RECENT)
        self.counts: Counter[str] = Counter(state.counts)
        self._num_answers = state.num_answers
        self.is_urgent = state.is_urgent
        self.tier = state.tier
        self.rehearsal_tier = state.rehearsal_tier
        self._num_new = 0

    def add_answers(self, samples: Iterable[Sample], rows: Mapping[str, int]) -> None:
        """Adds whether each answer was right. `rows`: which class known by now each label was, counted from 0."""
        for sample in samples:
            if not sample.is_answered:
                continue
            self._num_answers += 1
            error = float(not sample.is_correct)
            self._add(ERROR, error)
            known = [rows[name] for name in names_of(sample.label) if name in rows]
            for signal in dict.fromkeys(map(_group, known)):
                self._add(signal, error)

    def add_texts(self, distances_B: Tensor) -> None:
        """Adds the distance of each text to the nearest class mean."""
        for distance in distances_B.tolist():
            self._add(DISTANCE, distance)

    def reset_distances(self) -> None:
        """Forgets all distances, since those under another encoder cannot be compared with them."""
        self._detectors.pop(DISTANCE, None)

    def begin_round(self, kind: RoundKind) -> int:
        """Takes note that a slow round begins: nothing is urgent any more, and tiers freeze again. Returns its tier."""
        self.is_urgent = False
        tier = 0
        if kind == "labels":
            tier = self.tier
            self.tier = freeze(tier)
        elif kind == "rehearsal":
            tier = self.rehearsal_tier
            self.rehearsal_tier = 0
        return tier

    def take_num_detected(self) -> int:
        """Returns how many drifts were detected since the last call."""
        num_detected = self._num_new
        self._num_new = 0
        return num_detected

    def export(self) -> DriftState:
        return DriftState(
            journals={signal: list(detector.journal) for signal, detector in self._detectors.items()},
            recent=list(self.recent),
            counts=dict(self.counts),
            num_answers=self._num_answers,
            is_urgent=self.is_urgent,
            tier=self.tier,
            rehearsal_tier=self.rehearsal_tier,
        )

    def _add(self, signal: str, value: float) -> None:
        if not self._delta:
            return
        if signal not in self._detectors:
            self._detectors[signal] = Detector(self._delta)
        if (rise := self._detectors[signal].add(value)) is None:
            return
        if signal == DISTANCE:
            self.tier = unfreeze(self.tier, rise.effect)
            self.rehearsal_tier = unfreeze(self.rehearsal_tier, rise.effect)
        drift = Drift(signal=signal, at_label=self._num_answers, before=rise.before, after=rise.after)
        self.counts[f"drift_{signal.split()[0]}"] += 1
        self.recent.append(drift)
        self.is_urgent = True
        self._num_new += 1
        log.warning("drift", signal=signal, at_label=drift.at_label, **rise._asdict(), next_tier=TIERS[self.tier])


def split(values: Sequence[float]) -> Rise:
    """Returns the change where the means before and after it differ most, in standard errors.

    >>> split([0.0, 1.0, 1.0, 3.0, 4.0, 2.0])
    Rise(before=0.6666666666666666, after=3.0, effect=3.5)
    """
    sums = np.cumsum(values)
    num = len(values)
    places = np.arange(1, num)
    before = sums[:-1] / places
    after = (sums[-1] - sums[:-1]) / (num - places)
    at = np.argmax(np.abs(after - before) * np.sqrt(places * (num - places)))
    parts = np.split(np.asarray(values), [at + 1])
    variance = sum(len(part) * part.var() for part in parts) / num
    effect = (after[at] - before[at]) / max(np.sqrt(variance), MIN_DEVIATION)
    return Rise(float(before[at]), float(after[at]), float(effect))


def _group(row: int) -> str:
    """Returns the signal of the group that a class belongs to.

    >>> _group(0), _group(31)
    ('classes 1-16', 'classes 17-32')
    """
    first = row - row % GROUP_SIZE
    return f"{CLASSES} {first + 1}-{first + GROUP_SIZE}"
