"""Detects label flips: a source labels one class as another, or gives one label to everything. Pure.

    predicted p, labelled s --> charts by label s:      which predictions it contradicts  --.
                            --> charts by prediction p: which labels contradict it        --+-- both raised: p -> s
                            --> both for each source alone                                  --- both raised: its p -> s
                            --> charts by source:       which label it contradicts with   ----- raised: source gives s

A model learns from single contradictions, and spread label noise does little harm (networks resist spread noise, but
not concentrated noise). So only contradictions that pile up in one place count. A model that confuses p and s raises
only one of the two charts: the first if texts of s have changed, the second if p no longer occurs. A flip of p's labels
to s raises both, since it also takes the right labels away from p. So does a model that suddenly predicts p for most of
s while p still occurs: these labels are held, too, until the model has learnt better or an operator releases them.

One source among several gives few of the labels of a class: its flips would be too few to raise the charts, and would
go on for good. So each source has both charts of its own. A class is charted once it has MIN_LABELS labels from any
source: before, every label of it is a contradiction. A source is compared with the other sources, so a single source is
not compared.

The labels that raised an alarm were trusted until it began. `take_blamed` returns them, and they are withdrawn.

While an alarm lasts, the labels that are part of it are held, but they are still charted, so that the alarm ends when
its cause ends. A true change of the concept (p is called s from now on) looks the same, except for the sources: it is
no flip if `num_sources` sources have given the label at least AGREEING times each. An operator judges all others.

The charts are CUSUM charts (`Charts`), one for every outcome in every context:

    add(context, outcome) -> S = max(0, S + log(p1/p0)) for that outcome, S + log((1-p1)/(1-p0)) for the others there
    S >= THRESHOLD        -> raised, until S is 0 again

S is the cumulative sum of log likelihood ratios of Page (1954), for Bernoulli trials (Reynolds and Stoumbos 1999, "A
CUSUM chart for monitoring a proportion when inspecting continuously"): p1 is the out-of-control rate, which is to be
detected, and p0 the in-control rate. Here p0 follows the stream. It is at least IN_CONTROL, and higher in two cases:
the outcome has long been that frequent in this context (its running mean), or other contexts are as wrong now (the
share of wrong outcomes among their last RECENT trials). So a chart is not raised by a change that all contexts share,
by a frequent outcome of old, or in a new context, whose mean begins with its first trials.

By Wald's inequality a chart in control reaches the threshold in a share of at most exp(-THRESHOLD) = 1/10,000 of the
excursions from 0. At p0 = 0.1 six wrong outcomes in a row reach it, and so do 18 trials of which every second is wrong.
The sum is clipped at the threshold, so an alarm ends some 16 trials of its context after its cause.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from copy import copy
from math import log
from typing import Final

import msgspec

OUT_OF_CONTROL: Final = 0.5
"""The out-of-control rate p1, which is to be detected."""

IN_CONTROL: Final = 0.1
"""The lowest in-control rate p0."""

MAX_RATIO_TO_OTHERS = 2.0
MAX_RATIO_TO_MEAN = 1.5
"""An outcome is in control up to this ratio of its rate to the rate in other contexts, or to its running mean."""

THRESHOLD: Final = log(10_000)
RECENT: Final = 100
"""The number of last trials of all contexts over which the share of wrong outcomes is taken."""

MIN_OTHERS: Final = 25
"""The fewest recent trials of other contexts for a comparison."""

MEAN_TRIALS: Final = 200
"""The number of trials of a context over which the running mean of an outcome is taken."""

MAX_CONTEXTS: Final = 512
MAX_OUTCOMES: Final = 8
MAX_SOURCES: Final = 16
"""The most sources that are counted per outcome."""

MAX_EVENTS: Final = 128
"""The number of last events that are remembered per outcome. Most charts are raised by fewer than twenty."""


class Chart(msgspec.Struct, array_like=True):
    """The chart of one outcome in one context: its running mean, its sum, and whether it is raised.

    `sources` counts the outcome by source since the sum was 0. `events` has the hashes of the events with the outcome
    until the chart was raised.
    """

    mean: float = 0.0
    sum: float = 0.0
    is_raised: bool = False
    sources: dict[str, int] = {}
    events: list[int] = []

    def count(self, source: str, event: int) -> None:
        """Counts the outcome once more, with its source and event."""
        if source in self.sources or len(self.sources) < MAX_SOURCES:
            self.sources[source] = self.sources.get(source, 0) + 1
        if not self.is_raised:
            self.events.append(event)
            del self.events[:-MAX_EVENTS]


class Context(msgspec.Struct, array_like=True):
    """The number of trials of a context, and its charts by outcome."""

    num: int
    charts: dict[str, Chart]


class ChartsState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of `Charts`: `contexts` in the order of their last trial; `recent` has the last trials' contexts and
    whether they were wrong."""

    contexts: dict[str, Context] = {}
    recent: list[tuple[str, bool]] = []


class Charts:
    """The charts of at most `max_contexts` contexts (LRU), and of at most MAX_OUTCOMES outcomes in each.

    If a context has too many charts, the charts with the lowest sums are dropped first.
    """

    def __init__(self, state: ChartsState | None = None, *, max_contexts: int = MAX_CONTEXTS) -> None:
        state = state or ChartsState()
        self._max_contexts = max_contexts
        self._contexts = OrderedDict(_copy_contexts(state.contexts))
        self._recent = deque(state.recent)
        self._trials = Counter(name for name, _ in self._recent)
        self._wrong = Counter(name for name, is_wrong in self._recent if is_wrong)
        self._num_wrong = self._wrong.total()

    def add(
        self,
        context: str,
        outcome: str | None,
        *,
        source: str = "",
        event: int = 0,
        is_charted: bool = True,
        rate_elsewhere: Callable[[str], float] | None = None,
    ) -> None:
        """Adds one trial: the judgement of `event` by `source`. `outcome` is None if nothing went wrong.

        A trial that is not charted only enters the means. `rate_elsewhere` returns the rate of an outcome in other
        contexts; its default is the share of all wrong outcomes there.
        """
        wrong_elsewhere = self._wrong_share_elsewhere(context)
        self._add_recent(context, is_wrong=outcome is not None)
        entry = self._contexts.pop(context, None) or Context(0, {})
        self._contexts[context] = entry
        entry.num += 1
        if outcome is not None:
            entry.charts.setdefault(outcome, Chart())
        for name, chart in entry.charts.items():
            p0 = _in_control_rate(chart, rate_elsewhere(name) if rate_elsewhere else wrong_elsewhere)
            if not chart.sum:  # an outcome under suspicion does not enter its mean: it would become what was always so
                chart.mean += ((name == outcome) - chart.mean) * max(1 / entry.num, 1 / MEAN_TRIALS)
            if name != outcome:
                chart.sum = max(chart.sum + log((1 - OUT_OF_CONTROL) / (1 - p0)), 0.0)
            elif is_charted:
                chart.sum = min(chart.sum + log(OUT_OF_CONTROL / p0), THRESHOLD)
                chart.count(source, event)
            if not chart.sum:
                chart.sources.clear()
                chart.events.clear()
            chart.is_raised = chart.sum >= THRESHOLD or (chart.is_raised and chart.sum > 0.0)
        entry.charts = _keep_highest(entry.charts)
        if len(self._contexts) > self._max_contexts:
            self._contexts.popitem(last=False)

    def is_raised(self, context: str, outcome: str) -> bool:
        entry = self._contexts.get(context)
        return entry is not None and outcome in entry.charts and entry.charts[outcome].is_raised

    def sources(self, context: str, outcome: str) -> dict[str, int]:
        """Returns the number of times that each source had the outcome since its sum was 0."""
        entry = self._contexts.get(context)
        return entry.charts[outcome].sources if entry and outcome in entry.charts else {}

    def raised_charts(self) -> list[tuple[str, str]]:
        """Returns every (context, outcome) that is raised."""
        pairs: list[tuple[str, str]] = []
        for context, entry in self._contexts.items():
            pairs += [(context, outcome) for outcome, chart in entry.charts.items() if chart.is_raised]
        return pairs

    def num_trials(self, context: str) -> int:
        entry = self._contexts.get(context)
        return entry.num if entry else 0

    def chart(self, context: str, outcome: str) -> Chart:
        """Returns the chart of an outcome in a context, a new one if there is none."""
        entry = self._contexts.get(context)
        return entry.charts.get(outcome, Chart()) if entry else Chart()

    def contexts(self) -> list[str]:
        return list(self._contexts)

    def export(self) -> ChartsState:
        return ChartsState(contexts=_copy_contexts(self._contexts), recent=list(self._recent))

    def _wrong_share_elsewhere(self, context: str) -> float:
        """Returns the share of wrong outcomes among the recent trials of other contexts; 1 if these are too few."""
        num = len(self._recent) - self._trials[context]
        return (self._num_wrong - self._wrong[context]) / num if num >= MIN_OTHERS else 1.0

    def _add_recent(self, context: str, *, is_wrong: bool) -> None:
        self._recent.append((context, is_wrong))
        self._count_recent(context, 1, is_wrong)
        if len(self._recent) > RECENT:
            oldest, was_wrong = self._recent.popleft()
            self._count_recent(oldest, -1, was_wrong)
            if not self._trials[oldest]:
                del self._trials[oldest], self._wrong[oldest]

    def _count_recent(self, context: str, by: int, is_wrong: bool) -> None:
        self._trials[context] += by
        self._wrong[context] += by * is_wrong
        self._num_wrong += by * is_wrong


def renamed(
    state: ChartsState, name_of: Callable[[str], str], *, context_of: Callable[[str], str] = str
) -> ChartsState:
    """Returns charts with renamed outcomes and contexts; a chart that is renamed to "" is dropped.

    If several contexts get one name, the one with the last trial stays.
    """
    contexts = dict[str, Context]()
    for name, entry in _copy_contexts(state.contexts).items():
        charts = {name_of(outcome): chart for outcome, chart in entry.charts.items() if name_of(outcome)}
        if context_of(name):
            contexts.pop(context_of(name), None)
            contexts[context_of(name)] = Context(entry.num, charts)
    return ChartsState(contexts=contexts, recent=[(context_of(name), is_wrong) for name, is_wrong in state.recent])


def _in_control_rate(chart: Chart, wrong_elsewhere: float) -> float:
    """Returns p0 of a chart. It is at most p1; there the sum stands still and the chart tells nothing."""
    rate = max(IN_CONTROL, MAX_RATIO_TO_MEAN * chart.mean, MAX_RATIO_TO_OTHERS * wrong_elsewhere)
    return min(rate, OUT_OF_CONTROL)


def _copy_contexts(contexts: Mapping[str, Context]) -> dict[str, Context]:
    return {name: _copy_context(entry) for name, entry in contexts.items()}


def _copy_context(entry: Context) -> Context:
    charts = {outcome: copy(chart) for outcome, chart in entry.charts.items()}
    for chart in charts.values():
        chart.sources = dict(chart.sources)
        chart.events = list(chart.events)
    return Context(entry.num, charts)


def _keep_highest(charts: dict[str, Chart]) -> dict[str, Chart]:
    """Returns the MAX_OUTCOMES charts with the highest sums, without charts whose sum is 0 and whose mean is tiny."""
    active = {name: chart for name, chart in charts.items() if chart.sum > 0 or chart.mean > 1 / MEAN_TRIALS}
    if len(active) <= MAX_OUTCOMES:
        return active
    return dict(sorted(active.items(), key=lambda pair: (-pair[1].sum, -pair[1].mean))[:MAX_OUTCOMES])


MIN_LABELS = 50
"""The number of labels from which a class is charted."""

MAX_OWN_CONTEXTS = 8_192
"""The most pairs of a source and a class that are charted; the least recently seen pair is dropped first."""

OWN_SUM = log(100)
"""The sum of a source's chart by label from which it counts as raised. It is lower than THRESHOLD, since half of the
source's labels of the target class of a flip are right."""

AGREEING = 2
"""The number of labels by which a source agrees on a change: one may be a mistake."""


class FlipsState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a `FlipDetector`: the charts by label, by predicted class and by source, and each source's own
    charts by label and by predicted class."""

    by_label: ChartsState = ChartsState()
    by_prediction: ChartsState = ChartsState()
    by_source: ChartsState = ChartsState()
    own_by_label: ChartsState = ChartsState()
    own_by_prediction: ChartsState = ChartsState()
    num_raised: int = 0


class FlipDetector:
    """Charts pairs of a predicted class and a label, and sources. `num_raised` counts the alarms that have begun.

    A change that `num_sources` sources agree on is a change of the concept, and no flip.
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
        """Returns the events of the labels that raised an alarm since the last call, without held labels."""
        blamed, self._blamed = self._blamed, set()
        return blamed

    def alarms(self) -> list[str]:
        """Returns a sentence for each alarm."""
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
        """Renames the classes; a class that is renamed to "" is forgotten."""

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
        """Returns the alarms that a label of this source would be part of, each with its raised charts."""
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
        """Whether this source labels `predicted` as `label`, and too few other sources do.

        A source that is the only one to label the class is not compared.
        """
        num_of_others = self._by_prediction.num_trials(predicted) - self._own_by_prediction.num_trials(
            _pair(source, predicted)
        )
        if num_of_others < MIN_OTHERS:
            return False
        is_raised = self._own_by_prediction.is_raised(_pair(source, predicted), label)
        is_raised = is_raised and self._own_by_label.chart(_pair(source, label), predicted).sum >= OWN_SUM
        return is_raised and self._num_agreeing(predicted, label) < self._num_sources

    def _num_agreeing(self, predicted: str, label: str) -> int:
        """Returns the number of sources that agree, each by its own charts."""
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
    """Returns the context of a source and a class."""
    return f"{len(source)} {source}{name}"


def _parts(context: str) -> tuple[str, str]:
    """Returns the source and the class of a context."""
    length, _, both = context.partition(" ")
    return both[: int(length)], both[int(length) :]
