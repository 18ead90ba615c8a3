"""Detects label flips: somebody gives one class another one's label, or gives one label to everything.

    predicted p, labelled s --> charts by label s:      which predictions it contradicts  --.
                            --> charts by prediction p: which labels contradict it        --+-- both raised: p -> s
                            --> both for each source alone                                  --- both raised: its p -> s
                            --> charts by source:       which label it contradicts with   ----- raised: source gives s

A single contradiction is what a model learns from, and spread label noise does little harm (networks resist spread
noise but not concentrated noise). So only contradictions that pile up in one place count. A model that confuses p and
s raises one of the two charts only: the first where texts of s have changed, the second where p no longer occurs. A
flip of p's labels to s raises both, since it also takes the right labels away from p. So does a model that suddenly
takes most of s for p while p goes on: its labels are held, too, until the model has learnt better or an operator
releases them.

Of all labels of a class, those of one source among several are few: its flips would be too few of them to raise the
charts, and go on for good. So each source has both charts of its own. A class is charted once it has MIN_LABELS labels,
whoever said them: before, every label of it is a contradiction. A source is compared
with the other sources, so a source that is alone is not compared.

The labels that raised an alarm are told when it begins: until then they were believed, and they are withdrawn.

While an alarm lasts, the labels that are part of it are held, but they are still observed here, so that the alarm ends
when its cause does. A true change of that kind (what was p is s from now on) looks the same, but for who says it: a
flip that `num_sources` sources have said at least AGREEING times each is none. What fewer say, an operator judges.
"""

from collections.abc import Callable
from math import log

import msgspec

from learner.labels.cusum import MIN_OTHERS, Chart, Charts, ChartsState, renamed

MIN_LABELS = 50
"""A class is charted from this number of labels on."""

MAX_OWN_CONTEXTS = 8_192
"""The most pairs of a source and a class that are charted; the pair that was not seen for longest goes first."""

OWN_SUM = log(100)
"""Sum of a source's chart by label from which on it says that a label is taken from another class: of a flip, half of
the source's labels of the class that gets them are right."""

AGREEING = 2
"""A source agrees on a flip when it has said it so often: once may be a mistake."""


class FlipsState(msgspec.Struct, frozen=True, kw_only=True):
    """Holds the charts by label, by predicted class and by source, and those of each source alone by label and by
    predicted class; in a checkpoint under the names of format 2."""

    by_label: ChartsState = msgspec.field(default=ChartsState(), name="said")
    by_prediction: ChartsState = msgspec.field(default=ChartsState(), name="answered")
    by_source: ChartsState = msgspec.field(default=ChartsState(), name="sources")
    own_by_label: ChartsState = ChartsState()
    own_by_prediction: ChartsState = ChartsState()
    num_raised: int = 0


class FlipDetector:
    """Watches pairs of a predicted class and a label, and watches sources. `num_raised` counts the alarms begun.

    What `num_sources` sources agree on is a change of concepts, and no flip.
    """

    def __init__(self, state: FlipsState | None = None, *, num_sources: int = 3) -> None:
        self._num_sources = num_sources
        state = state or FlipsState()
        self._by_label = Charts(state.by_label)
        self._by_prediction = Charts(state.by_prediction)
        self._by_source = Charts(state.by_source)
        self._own_by_label = Charts(state.own_by_label, max_contexts=MAX_OWN_CONTEXTS)
        self._own_by_prediction = Charts(state.own_by_prediction, max_contexts=MAX_OWN_CONTEXTS)
        self.num_raised = state.num_raised
        self._blamed: set[int] = set()

    def add(self, source: str, *, predicted: str, label: str, event: int = 0) -> bool:
        """Adds the label of an event to the charts; returns whether it is part of an alarm, which may begin with it."""
        is_charted = self._by_label.num_trials(label) >= MIN_LABELS
        is_wrong = predicted != label
        before = self._raised(source, predicted, label)
        self._by_label.add(label, predicted if is_wrong else None, source=source, event=event, is_charted=is_charted)
        self._by_prediction.add(predicted, label if is_wrong else None, event=event, is_charted=is_charted)
        self._by_source.add(source, label if is_wrong else None, event=event, is_charted=is_charted)
        own_label = _pair(source, label)
        own_prediction = _pair(source, predicted)
        self._own_by_label.add(
            own_label,
            predicted if is_wrong else None,
            source=source,
            event=event,
            is_charted=is_charted,
            rate_elsewhere=lambda outcome: self._by_label.chart(label, outcome).mean,
        )
        self._own_by_prediction.add(
            own_prediction,
            label if is_wrong else None,
            event=event,
            is_charted=is_charted,
            rate_elsewhere=lambda outcome: self._by_prediction.chart(predicted, outcome).mean,
        )
        raised = self._raised(source, predicted, label)
        self.num_raised += bool(raised and not before)
        for alarm in raised.keys() - before.keys():
            for chart in raised[alarm]:
                self._blamed.update(chart.events)
        self._blamed.discard(event)
        return is_wrong and bool(raised)

    def take_blamed(self) -> set[int]:
        """Returns the events of the labels that have raised an alarm since the last call, but for those held."""
        blamed, self._blamed = self._blamed, set()
        return blamed

    def alarms(self) -> list[str]:
        """Describes every alarm that is raised, in words."""
        flips = [
            f"{predicted!r} is said to be {label!r}"
            for label, predicted in self._by_label.raised_charts()
            if self._is_flipped(predicted, label)
        ]
        for context, label in self._own_by_prediction.raised_charts():
            source, predicted = _parts(context)
            if self._is_own_flip(source, predicted, label) and not self._is_flipped(predicted, label):
                flips.append(f"{predicted!r} is said to be {label!r} by source {source!r}")
        sources = [f"source {source!r} says {label!r}" for source, label in self._by_source.raised_charts()]
        return flips + sources

    def rename(self, name_of: Callable[[str], str]) -> None:
        """Goes on under other names of the classes; one that is named "" is forgotten."""

        def pair_of(context: str) -> str:
            source, label = _parts(context)
            return _pair(source, name_of(label)) if name_of(label) else ""

        state = self.export()
        self._by_label = Charts(renamed(state.by_label, name_of, context_of=name_of))
        self._by_prediction = Charts(renamed(state.by_prediction, name_of, context_of=name_of))
        self._by_source = Charts(renamed(state.by_source, name_of))
        own_by_label = renamed(state.own_by_label, name_of, context_of=pair_of)
        own_by_prediction = renamed(state.own_by_prediction, name_of, context_of=pair_of)
        self._own_by_label = Charts(own_by_label, max_contexts=MAX_OWN_CONTEXTS)
        self._own_by_prediction = Charts(own_by_prediction, max_contexts=MAX_OWN_CONTEXTS)

    def export(self) -> FlipsState:
        return FlipsState(
            by_label=self._by_label.export(),
            by_prediction=self._by_prediction.export(),
            by_source=self._by_source.export(),
            own_by_label=self._own_by_label.export(),
            own_by_prediction=self._own_by_prediction.export(),
            num_raised=self.num_raised,
        )

    def _raised(self, source: str, predicted: str, label: str) -> dict[str, list[Chart]]:
        """Returns the alarms that a label of this source would be part of, and the charts that have raised each."""
        raised = dict[str, list[Chart]]()
        if self._is_flipped(predicted, label):
            raised["flip"] = [self._by_label.chart(label, predicted), self._by_prediction.chart(predicted, label)]
        if self._is_own_flip(source, predicted, label):
            own_label = self._own_by_label.chart(_pair(source, label), predicted)
            raised["own_flip"] = [own_label, self._own_by_prediction.chart(_pair(source, predicted), label)]
        if self._by_source.is_raised(source, label):
            raised["source"] = [self._by_source.chart(source, label)]
        return raised

    def _is_own_flip(self, source: str, predicted: str, label: str) -> bool:
        """Whether a source gives `predicted` the label `label`, and too few others do. One that labels the class alone
        is not compared."""
        num_of_others = self._by_prediction.num_trials(predicted) - self._own_by_prediction.num_trials(
            _pair(source, predicted)
        )
        if num_of_others < MIN_OTHERS:
            return False
        is_raised = self._own_by_prediction.is_raised(_pair(source, predicted), label)
        is_raised = is_raised and self._own_by_label.chart(_pair(source, label), predicted).sum >= OWN_SUM
        return is_raised and self._num_agreeing(predicted, label) < self._num_sources

    def _num_agreeing(self, predicted: str, label: str) -> int:
        """Returns how many sources say so, each by its own charts."""
        own = [
            self._own_by_label.sources(_pair(source, label), predicted).get(source, 0)
            for source in self._by_source.contexts()
        ]
        return sum(count >= AGREEING for count in own)

    def _is_flipped(self, predicted: str, label: str) -> bool:
        if not (self._by_label.is_raised(label, predicted) and self._by_prediction.is_raised(predicted, label)):
            return False
        counts = self._by_label.sources(label, predicted).values()
        return sum(count >= AGREEING for count in counts) < self._num_sources


def _pair(source: str, name: str) -> str:
    """Returns the context of a class at one source."""
    return f"{len(source)} {source}{name}"


def _parts(context: str) -> tuple[str, str]:
    """Returns the source and the class of a context."""
    length, _, both = context.partition(" ")
    return both[: int(length)], both[int(length) :]
