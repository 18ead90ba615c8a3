"""Detects drift: a rise of the error rate, texts unlike the known ones, and classes whose concept has changed.

    served answers --wrong: 1, right: 0--> "error" and, by class, "classes 1-16", ... --.
                                                                                        >-- ADWIN --> Drift
    learnt texts --distance to the nearest class mean--> "distance" --------------------'      '--> tier of a round
    a label --prediction by all labels' means, by the newest labels' means--> evidence --> ConceptChange, a restart

ADWIN (Bifet and Gavalda 2007; the implementation is river's) keeps a window of values whose mean has not changed. If
the means of two parts of the window differ by more than chance allows, ADWIN drops the older part. Only a rise counts
as drift, since learning makes errors and distances fall. Classes are grouped in the order of their first labels. So in
a stream that gets new classes stage by stage, the classes of a group come from about one stage.

ADWIN's state cannot be stored except by pickling. So each detector has a journal, from which it can be rebuilt: the
values since its last detection, at most MAX_JOURNAL. A full journal drops its older half. A checkpoint contains the
journals, and a restored detector gets the values of its journal again.

Tiers. The further the texts of the stream have moved away from the known ones, the deeper a slow round trains.

    tier     trained blocks                         condition
    task     `learner.trainable_layers` top blocks  always
    domain   `learner.deeper_layers`, the first     the distances rose by DOMAIN_EFFECT or more
    base     `learner.deeper_layers`, the second    the distances rose by BASE_EFFECT or more

Drift unfreezes its tier at once, and each round on labels freezes one tier again. So the unfrozen tier is trained
twice: on few labels soon after the shift, and then on more labels. In a stream that is stationary again, no tier stays
unfrozen. The next rehearsal trains the deepest tier that was unfrozen since the last rehearsal; a rehearsal has the
most steps, and runs while the learner is idle. A round on pseudo-labels trains the task tier, since its labels may be
wrong.

After a shift, the blocks near its cause should be trained (Lee et al. 2023, "Surgical Fine-Tuning", arXiv 2210.11466).
They are unfrozen gradually, from the top down (Howard and Ruder 2018, ULMFiT, section 3.3). New classes, or new labels
for the same texts, are a change at the output, for which the top blocks are enough. New texts are a change at the
input. So only the distances choose the tier. They do so by their effect size (Cohen's d: the rise in standard
deviations), which has no unit, so the same limits hold for every encoder. A rise of the errors starts a round earlier
and does not make it deeper.

The table has effect sizes with MiniLM, at ADWIN's first detection after a change of the stream. The first 1,500 texts
were of 75 classes of CLINC150, and drift was detected within 300 to 700 more texts. One column is for the encoder as
published. The other is for an encoder that rounds have trained, which moves known texts closer to their class means.

                                          as published  trained
    the same classes                      no drift      no drift
    all 150 classes                       no drift      1.2
    the other 75 classes                  0.9           1.6
    SNIPS (commands to other assistants)  1.3           1.6
    SST-2 (film reviews)                  2.3           3.3
    TREC (questions of fact)              2.5           3.2
    TREC as 29 % of the same classes      0.5           no drift

Concept changes. Before a label is learnt, its text is classified twice: by the nearest class mean of all labels, and by
the nearest class mean of the newest labels (`learner.fast.recency`). If exactly one of the two is right, the label is a
win or a loss of the newest labels. It counts for the class of the label, and for the class that was predicted wrongly,
which may have lost these texts. Without a change the newest labels lose, since eight labels of a class predict worse
than a hundred. So a bet on the newest labels is a supermartingale: it multiplies its capital by 1 + BET at a win and by
1 - BET at a loss, and the capital exceeds EVIDENCE by chance with a probability of at most 1 / EVIDENCE (Ville 1939;
testing by betting, Waudby-Smith and Ramdas 2020, arXiv:2010.09686). The bet restarts if its capital falls to 1, as in
the CUSUM chart of Page (1954). So a change of an old class is detected as quickly as a change of a young class.

If there are few classes, the last solved head predicts the label, too. If the head is right, the prediction by all
labels counts as right. The rule is for time series: there the next label mostly equals the last ones, so the newest
means are right more often although no concept has changed.

No source decides alone. Each source can contribute at most 1 / `num_sources` of the required evidence, so at least
`num_sources` sources have to agree. A label that an operator approved counts in full. A change that only one source
claims is an attack, and the flip alarm holds its labels (`learner.intake.flips`).

Measured on CLINC150 with a frozen encoder, in mixed order (`make bench ONLY=concept_change`): without a change no class
restarts. If 45 of the 150 classes swap names after half of the labels, exactly these are detected. After 20 more labels
of each class, they are predicted as well as by a learner that saw only the new names.

Rejected:

- Page-Hinkley: its threshold is a sum of values, so each signal and each error rate would need its own.
- KSWIN: compares random draws.
- The score of an answer as a signal: each new version changes the scores.
- Choosing the tier by the rise of the error rate: new classes make every answer wrong although the encoder is right.
- Keeping a tier unfrozen until the errors are as rare as before: they may never be.
- Sums over the last labels, in windows of several lengths, in place of concept changes: the last 1,000 labels have 7 of
  each of 150 classes, and the last 10,000 contain the old concept for 10,000 more labels.
- ADWIN on the errors of a class: it detects that something is wrong, but not that the newest labels are better.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import structlog

# The core of `river.drift.ADWIN`. The package itself loads a thousand modules of SciPy and data sets, which takes a
# quarter of the time in which a learner starts.
from river._river_rust.drift import AdaptiveWindowing
from torch import Tensor

from learner.fast.rows import Nearest
from learner.samples import Sample
from wire.kinds import find_kind, row_names
from wire.records import TIERS, ConceptChange, Drift, RoundKind

DOMAIN_EFFECT: Final = 1.5
BASE_EFFECT: Final = 2.5


def tier_for(effect: float) -> int:
    """Returns the tier, as an index into TIERS, that a rise of the distances by this effect size unfreezes.

    >>> [TIERS[tier_for(effect)] for effect in (0.5, 1.8, 2.5)]
    ['task', 'domain', 'base']
    """
    return (effect >= DOMAIN_EFFECT) + (effect >= BASE_EFFECT)


def unfreeze(tier: int, effect: float) -> int:
    """Returns the tier of the next round after a rise by this effect size. Before the rise, it was `tier`."""
    return max(tier, tier_for(effect))


def freeze(tier: int) -> int:
    """Returns the tier of the next round, once a round that trains `tier` has begun: one tier less deep."""
    return max(tier - 1, 0)


def tier_name(layers: int, layers_by_tier: Sequence[int]) -> str:
    """Returns the name of the first tier that trains at least `layers` blocks.

    >>> tier_name(2, (2, 2, 4)), tier_name(4, (2, 2, 4))
    ('task', 'base')
    """
    return next(name for name, most in zip(TIERS, layers_by_tier, strict=True) if layers <= most)


ERROR = "error"
CLASSES = "classes"
DISTANCE = "distance"

MAX_JOURNAL: Final = 2_000
"""The number of values in a full journal. A change that takes more values to detect is too slow to hurry a slow round.
"""

CLOCK: Final = 8
"""The number of values between two tests of ADWIN."""

GROUP_SIZE: Final = 16
"""The number of classes whose errors together form one signal."""

RECENT_DRIFTS: Final = 8
"""The number of last drifts that reports show."""

MIN_DEVIATION: Final = 0.01
"""The smallest standard deviation that an effect size divides by, so that it is finite if a signal hardly varies."""

log = structlog.get_logger("learner")


class DriftState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a `DriftWatch`: the journal of each signal; tiers are indices into TIERS."""

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
    """Runs ADWIN on one signal. `journal` is its whole state: the values since the last detection."""

    def __init__(self, delta: float, journal: Iterable[float] = ()) -> None:
        self._delta = delta
        self._restart(journal)

    def add(self, value: float) -> Rise | None:
        """Adds a value of the signal. Returns the rise of the mean that ADWIN detects with it, or None."""
        self.journal.append(value)
        if self._adwin.update(value):
            rise = largest_change(self.journal)
            self._restart()
            return rise if rise.effect > 0 else None
        if len(self.journal) == MAX_JOURNAL:
            self._restart(self.journal[MAX_JOURNAL // 2 :])
        return None

    def _restart(self, journal: Iterable[float] = ()) -> None:
        self.journal = list(journal)
        self._adwin = AdaptiveWindowing(
            delta=self._delta, clock=CLOCK, max_buckets=5, min_window_length=5, grace_period=10
        )
        for value in self.journal:
            self._adwin.update(value)


class DriftWatch:
    """Detects drift in all signals: the errors of all answers, the errors of each group of classes, and the distances.

    `is_urgent`: drift was detected, and no slow round has begun since. `tier` and `rehearsal_tier` are indices into
    TIERS: the tier of the next round on labels, and the tier of the next rehearsal.
    """

    def __init__(self, *, delta: float, state: DriftState | None = None) -> None:
        self._delta = delta
        state = state or DriftState()
        self._detectors = {signal: Detector(delta, journal) for signal, journal in state.journals.items()}
        self.recent = deque(state.recent, maxlen=RECENT_DRIFTS)
        self.counts: Counter[str] = Counter(state.counts)
        self._num_answers = state.num_answers
        self.is_urgent = state.is_urgent
        self.tier = state.tier
        self.rehearsal_tier = state.rehearsal_tier
        self._num_new = 0

    def add_answers(self, samples: Iterable[Sample], rows: Mapping[str, int]) -> None:
        """Adds the errors of served answers, as their labels show. `rows` has the row of each known class."""
        for sample in samples:
            if not sample.is_answered:
                continue
            self._num_answers += 1
            error = float(not sample.is_correct)
            self._add(ERROR, error)
            known = [rows[name] for name in row_names(sample.label) if name in rows]
            for signal in dict.fromkeys(map(_group, known)):
                self._add(signal, error)

    def add_texts(self, distances_B: Tensor) -> None:
        """Adds the distance of each text to the nearest class mean."""
        for distance in distances_B.tolist():
            self._add(DISTANCE, distance)

    def reset_distances(self) -> None:
        """Forgets all distances, since distances under two encoders cannot be compared."""
        self._detectors.pop(DISTANCE, None)

    def begin_round(self, kind: RoundKind) -> int:
        """Records that a slow round begins, and returns the tier that it trains.

        Drift is no longer urgent then. A round on labels freezes one tier again, and a rehearsal all of its tiers.
        """
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
        """Returns the number of drifts that were detected since the last call."""
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


def largest_change(values: Sequence[float]) -> Rise:
    """Returns the change of the mean at the change point: where the means before and after differ most significantly.

    >>> largest_change([0.0, 1.0, 1.0, 3.0, 4.0, 2.0])
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
    """Returns the name of the error signal of the group to which the class in `row` belongs.

    >>> _group(0), _group(31)
    ('classes 1-16', 'classes 17-32')
    """
    first = row - row % GROUP_SIZE
    return f"{CLASSES} {first + 1}-{first + GROUP_SIZE}"


EVIDENCE: Final = 100.0
"""The capital of a bet from which on a class counts as changed."""

BET: Final = 0.95
"""The fraction of the capital that is bet on the newest labels."""

FACTORS: Final = {(False, True): 1 + BET, (True, False): 1 - BET, (True, True): 0.95, (False, False): 1.0}
"""The factor of the capital at a label, by (whether the means of all labels are right, whether the newest are).

If both are right, the capital shrinks a little, so that an old win is forgotten: the first win dates the change.
"""

MIN_LABELS: Final = 3
"""The fewest labels that a class must have got since its change. Without this rule an old class could restart because
of a new one: the texts of the new class are predicted as the old class, which gets no labels meanwhile."""

MAX_SOURCES: Final = 16
"""The most sources whose evidence on a class is kept apart; all others count as one source."""

APPROVED: Final = "approved"
OTHERS: Final = "others"


class Observation(NamedTuple):
    """A label for an event of time `time_ms`, with two predictions for the event.

    `by_all` is the prediction by the means of all labels, `by_newest` the prediction by the means of the newest labels.
    """

    label: str
    by_all: str
    by_newest: str
    time_ms: int
    source: str = ""
    is_approved: bool = False


class Evidence(msgspec.Struct, array_like=True):
    """The evidence that a class changed at `since_ms`: the logarithm of the capital that each source has contributed.

    `num_labels` counts the labels of the class that were predicted wrongly since the first win.
    """

    since_ms: int
    by_source: dict[str, float]
    num_labels: int = 0


class ConceptChangesState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of `ConceptChanges`.

    - `wrong_since_ms`: the classes whose last labels were all predicted wrongly by the means of all labels, each with
      the time of the first of these labels. A change is detected when the newest labels win, but it began before.
    - `changed_ms`: the classes that have changed, each with the time of its last change.
    """

    evidence: dict[str, Evidence] = {}
    wrong_since_ms: dict[str, int] = {}
    changed_ms: dict[str, int] = {}


class ConceptChanges:
    """Detects classes whose concept has changed, from bets on their newest labels. `num_sources` sources must agree."""

    def __init__(self, num_sources: int, state: ConceptChangesState | None = None) -> None:
        state = state or ConceptChangesState()
        self._part = math.log(EVIDENCE) / num_sources
        self._evidence = {label: _copy(each) for label, each in state.evidence.items()}
        self._wrong_since_ms = dict(state.wrong_since_ms)
        self._changed_ms = dict(state.changed_ms)

    def add(self, observations: Iterable[Observation]) -> None:
        """Updates the evidence with labels that are about to be learnt."""
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
                self._bet(label, observation, math.log(factor))

    def detected(self, offsets: Mapping[str, int]) -> list[ConceptChange]:
        """Returns the changes for which there is enough evidence. `offsets`: the records below them have been read."""
        # The contributions of all sources add up to the logarithm, except for rounding.
        enough = math.log(EVIDENCE) - 1e-9
        changed = [
            label
            for label, evidence in self._evidence.items()
            if sum(evidence.by_source.values()) >= enough and evidence.num_labels >= MIN_LABELS
        ]
        return [ConceptChange(label, self._evidence[label].since_ms, dict(offsets)) for label in sorted(changed)]

    def follow(self, change: ConceptChange) -> None:
        """Records that a class has restarted because of a change, and deletes the evidence about the class."""
        self.forget(change.label)
        self._changed_ms[change.label] = change.since_ms

    def is_outdated(self, label: str, time_ms: int) -> bool:
        """Returns whether a label is outdated: its event at `time_ms` is older than the last change of its class."""
        return time_ms < self._changed_ms.get(label, 0)

    def rename(self, label: str, name: str) -> None:
        """Renames a class. If there already is a class of this name, the evidence about both is deleted."""
        tables: tuple[dict[str, Any], ...] = (self._evidence, self._wrong_since_ms, self._changed_ms)
        is_taken = any(name in table for table in tables)
        for table in tables:
            value = table.pop(label, None)
            if value is not None and not is_taken:
                table[name] = value
        if is_taken:
            self.forget(name)

    def forget(self, label: str) -> None:
        """Deletes everything about a class."""
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
        most = math.log(EVIDENCE) if observation.is_approved else self._part
        evidence.by_source[source] = min(evidence.by_source.get(source, 0.0) + gain, most)
        evidence.num_labels += label == observation.label != observation.by_all
        if sum(evidence.by_source.values()) <= 0:
            del self._evidence[label]


def _copy(evidence: Evidence) -> Evidence:
    return msgspec.structs.replace(evidence, by_source=dict(evidence.by_source))


def observations(
    samples: Iterable[Sample | None], nearest: Nearest, is_right_B: Iterable[bool]
) -> Iterator[Observation]:
    """Yields an `Observation` for each sample, with the predictions of `nearest`.

    Texts that nobody labelled (None), sets of labels and scores yield none. `is_right_B`: whether the head predicted
    the label; then the prediction by all labels counts as right.
    """
    for sample, by_all, by_newest, is_right in zip(samples, nearest.by_all, nearest.by_newest, is_right_B, strict=True):
        if sample is not None and find_kind(sample.label).is_exclusive:
            by_all = sample.label if is_right else by_all
            yield Observation(sample.label, by_all, by_newest, sample.answer_time_ms, sample.source, sample.is_approved)
