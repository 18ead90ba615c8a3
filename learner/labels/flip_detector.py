"""Detects label flips: somebody gives one class another one's label, or gives one label to everything.

    predicted p, labelled s --> charts by label s:      which predictions it contradicts  --.
                            --> charts by prediction p: which labels contradict it        --+-- both raised: p -> s
                            --> charts by source:       which label it contradicts with   ----- raised: source gives s

A single contradiction is what a model learns from, and spread label noise does little harm (networks resist spread
noise but not concentrated noise). So only contradictions that pile up in one place count. A model that confuses p and
s raises one of the two charts only: the first where texts of s have changed, the second where p no longer occurs. A
flip of p's labels to s raises both, since it also takes the right labels away from p. So does a model that suddenly
takes most of s for p while p goes on: its labels are held, too, until the model has learnt better or an operator
releases them.

A class is charted once it has MIN_LABELS labels: before, every label of it is a contradiction. A source is compared
with the other sources, so a source that is alone is not compared.

While an alarm lasts, the labels that are part of it are held, but they are still observed here, so that the alarm ends
when its cause does. A true change of that kind (what was p is s from now on) looks the same, but for who says it: a
flip that `num_sources` sources have said at least AGREEING times each is none. What fewer say, an operator judges.
"""

from collections.abc import Callable

import msgspec

from learner.labels.cusum import Charts, ChartsState, renamed

MIN_LABELS = 50
"""A class is charted from this number of labels on."""

AGREEING = 2
"""A source agrees on a flip when it has said it so often: once may be a mistake."""


class FlipsState(msgspec.Struct, frozen=True, kw_only=True):
    """Holds the charts by label, by predicted class and by source; in a checkpoint under the names of format 2."""

    by_label: ChartsState = msgspec.field(default=ChartsState(), name="said")
    by_prediction: ChartsState = msgspec.field(default=ChartsState(), name="answered")
    by_source: ChartsState = msgspec.field(default=ChartsState(), name="sources")
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
        self.num_raised = state.num_raised

    def add(self, source: str, *, predicted: str, label: str) -> bool:
        """Adds a label to the charts; returns whether it is part of an alarm, which may begin with it."""
        is_charted = self._by_label.num_trials(label) >= MIN_LABELS
        is_wrong = predicted != label
        was_raised = self._is_raised(source, predicted, label)
        self._by_label.add(label, predicted if is_wrong else None, source=source, is_charted=is_charted)
        self._by_prediction.add(predicted, label if is_wrong else None, is_charted=is_charted)
        self._by_source.add(source, label if is_wrong else None, is_charted=is_charted)
        is_raised = self._is_raised(source, predicted, label)
        if is_raised and not was_raised:
            self.num_raised += 1
        return is_wrong and is_raised

    def alarms(self) -> list[str]:
        """Describes every alarm that is raised, in words."""
        flips = [
            f"{predicted!r} is said to be {label!r}"
            for label, predicted in self._by_label.raised_charts()
            if self._is_flipped(predicted, label)
        ]
        sources = [f"source {source!r} says {label!r}" for source, label in self._by_source.raised_charts()]
        return flips + sources

    def rename(self, name_of: Callable[[str], str]) -> None:
        """Goes on under other names of the classes; one that is named "" is forgotten."""
        state = self.export()
        self._by_label = Charts(renamed(state.by_label, name_of, are_contexts_classes=True))
        self._by_prediction = Charts(renamed(state.by_prediction, name_of, are_contexts_classes=True))
        self._by_source = Charts(renamed(state.by_source, name_of, are_contexts_classes=False))

    def export(self) -> FlipsState:
        return FlipsState(
            by_label=self._by_label.export(),
            by_prediction=self._by_prediction.export(),
            by_source=self._by_source.export(),
            num_raised=self.num_raised,
        )

    def _is_raised(self, source: str, predicted: str, label: str) -> bool:
        return self._is_flipped(predicted, label) or self._by_source.is_raised(source, label)

    def _is_flipped(self, predicted: str, label: str) -> bool:
        if not (self._by_label.is_raised(label, predicted) and self._by_prediction.is_raised(predicted, label)):
            return False
        counts = self._by_label.sources(label, predicted).values()
        return sum(count >= AGREEING for count in counts) < self._num_sources
