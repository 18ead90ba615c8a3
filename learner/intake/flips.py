"""Detects label flips: a source labels one class as another, or gives the same label to everything. Pure.

For each label of an event for which the model predicted p and which is labelled s, control charts are updated:

    chart                              context          counts                               alarm
    by label                           s                predictions that contradict s    --. both are raised:
    by prediction                      p                labels that contradict p         --' p is labelled as s
    by label, of one source            s, source        as above                         --. both are raised:
    by prediction, of one source       p, source        as above                         --' source labels p as s
    by source                          source           labels by which it contradicts   --- raised: source says s

A label that contradicts the model may be right; the model learns from such labels. And label noise that is spread over
the classes does little harm, since networks resist it. So an alarm needs many contradictions of one kind.

A model that confuses p and s raises only one of the first two charts: the chart by label if the texts of s have
changed, the chart by prediction if p no longer occurs. If p's labels are flipped to s, both charts are raised, since p
also loses its right labels. Both are also raised if the model suddenly predicts p for most texts of s while p still
occurs. Then the labels are held, too, until the model has learnt better, or an operator releases them.

If there are several sources, each gives only some of the labels of a class. The flips of one source would be too few to
raise the charts of all labels, and would continue for ever. So each source has its own pair of charts, too. Its rates
are compared with the other sources, so if there is a single source, its own charts raise no alarm. A class is charted
once it has MIN_LABELS labels from any source, since at first every label of a new class is a contradiction.

The labels that raised an alarm were trusted until it began. `take_blamed` returns their events, and they are withdrawn.

While an alarm lasts, the labels that are part of it are held. They still update the charts, so the alarm ends when its
cause ends. A true change of the concept (p is called s from now on) looks like a flip, except for the sources: it is no
flip if `num_sources` sources have given the label at least AGREEING times each. An operator decides in all other cases.

The charts are CUSUM charts (`Charts`). There is one for each outcome in each context:

    add(context, outcome) -> S = max(0, S + log(p1/p0)) for this outcome, S + log((1-p1)/(1-p0)) for the other outcomes
    S >= THRESHOLD        -> raised, until S is 0 again

S is the cumulative sum of log likelihood ratios of Page (1954), for Bernoulli trials (Reynolds and Stoumbos 1999, "A
CUSUM chart for monitoring a proportion when inspecting continuously"). p1 is the out-of-control rate, which is to be
detected, and p0 the in-control rate. Here p0 follows the stream. It is at least IN_CONTROL. It is higher if

- the outcome has long been frequent in this context (by its running mean), or
- other contexts have many wrong outcomes now, too (by their last RECENT trials).

So these raise no chart: a change that all contexts share, an outcome that has always been frequent, and a new context,
whose mean begins with its first trials.

By Wald's inequality, at most exp(-THRESHOLD) = 1/10,000 of the excursions from 0 of a chart in control reach the
threshold. At p0 = 0.1, six wrong outcomes in a row reach it, and so do 18 trials of which every second is wrong. The
sum is clipped at the threshold, so an alarm ends about 16 trials of its context after its cause has ended.
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
"""An outcome is in control if its rate is at most this many times the rate of wrong outcomes in other contexts."""

MAX_RATIO_TO_MEAN = 1.5
"""An outcome is in control if its rate is at most this many times its running mean."""

THRESHOLD: Final = log(10_000)
"""The sum from which on a chart is raised."""

RECENT: Final = 100
"""The share of wrong outcomes is measured over this many last trials of all contexts."""

MIN_OTHERS: Final = 25
"""The fewest recent trials of other contexts that are needed for a comparison with them."""

MEAN_TRIALS: Final = 200
"""The running mean of an outcome is an average over about this many trials of its context."""

MAX_CONTEXTS: Final = 512
MAX_OUTCOMES: Final = 8
MAX_SOURCES: Final = 16
"""The most sources that are counted for each chart."""

MAX_EVENTS: Final = 128
"""The number of last events that are remembered for each chart. Most charts are raised by fewer than twenty."""


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
    """The state of `Charts`.

    `contexts` is in the order of the contexts' last trials. `recent` has the last trials: their contexts, and whether
    their outcomes were wrong.
    """

    contexts: dict[str, Context] = {}
    recent: list[tuple[str, bool]] = []


class Charts:
    """CUSUM charts, one for each outcome in each context.

    There are at most `max_contexts` contexts; the least recently used is dropped first. A context has at most
    MAX_OUTCOMES charts; those with the lowest sums are dropped first.
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
        """Adds a trial to a context: the label of `event` by `source`. `outcome` is None if it contradicts nothing.

        If `is_charted` is False, the trial only updates the running means. `rate_elsewhere` returns the rate of an
        outcome in other contexts. By default it is the share of all wrong outcomes there.
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
            # While a chart is under suspicion its mean stays, or a new outcome would soon count as an old one.
            if not chart.sum:
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
        """Returns how often each source had the outcome since the sum of its chart was 0."""
        entry = self._contexts.get(context)
        return entry.charts[outcome].sources if entry and outcome in entry.charts else {}

    def raised_charts(self) -> list[tuple[str, str]]:
        """Returns the (context, outcome) of each chart that is raised."""
        pairs: list[tuple[str, str]] = []
        for context, entry in self._contexts.items():
            pairs += [(context, outcome) for outcome, chart in entry.charts.items() if chart.is_raised]
        return pairs

    def num_trials(self, context: str) -> int:
        entry = self._contexts.get(context)
        return entry.num if entry else 0

    def chart(self, context: str, outcome: str) -> Chart:
        """Returns the chart of an outcome in a context; an empty chart if there is none."""
        entry = self._contexts.get(context)
        return entry.charts.get(outcome, Chart()) if entry else Chart()

    def contexts(self) -> list[str]:
        return list(self._contexts)

    def export(self) -> ChartsState:
        return ChartsState(contexts=_copy_contexts(self._contexts), recent=list(self._recent))

    def _wrong_share_elsewhere(self, context: str) -> float:
        """Returns the share of wrong outcomes in recent trials of other contexts; 1 if there are too few trials."""
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
    """Returns the charts with outcomes renamed by `name_of` and contexts by `context_of`; drops what is renamed to "".

    If several contexts get the same name, the context with the last trial is kept.
    """
    contexts = dict[str, Context]()
    for name, entry in _copy_contexts(state.contexts).items():
        charts = {name_of(outcome): chart for outcome, chart in entry.charts.items() if name_of(outcome)}
        if context_of(name):
            contexts.pop(context_of(name), None)
            contexts[context_of(name)] = Context(entry.num, charts)
    return ChartsState(contexts=contexts, recent=[(context_of(name), is_wrong) for name, is_wrong in state.recent])


def _in_control_rate(chart: Chart, wrong_elsewhere: float) -> float:
    """Returns the in-control rate p0 of a chart. It is at most p1; if it is p1, the sum does not change."""
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
"""A class is charted once it has this many labels."""

MAX_OWN_CONTEXTS = 8_192
"""The most pairs of a source and a class that are charted. The least recently seen pair is dropped first."""

OWN_SUM = log(100)
"""A source's chart by label counts as raised from this sum on. It is lower than THRESHOLD: if a source labels p as s,
half of its labels s are still right."""

AGREEING = 2
"""The number of labels with which a source counts as agreeing on a change. A single label may be a mistake."""


class FlipsState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a `FlipDetector`: its charts. The `own_` charts are those of each source alone."""

    by_label: ChartsState = ChartsState()
    by_prediction: ChartsState = ChartsState()
    by_source: ChartsState = ChartsState()
    own_by_label: ChartsState = ChartsState()
    own_by_prediction: ChartsState = ChartsState()
    num_raised: int = 0


class FlipDetector:
    """Detects label flips from the predictions and the labels of events. `num_raised` counts the alarms so far.

    If `num_sources` sources agree on a change, it is a change of the concept, and not a flip.
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
        """Adds the label of an event to the charts. Returns whether the label is part of an alarm, and must be held."""
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
        """Returns the events whose labels raised an alarm since the last call, except labels that were held."""
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
        """Renames the classes of all charts; the charts of a class that is renamed to "" are dropped."""

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
        """Returns the current alarms to which such a label of this source belongs, each with its raised charts."""
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
        """Returns whether this source labels `predicted` as `label`, and too few other sources agree.

        Always False if hardly any other source labels the class.
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
        """Returns the number of sources that also label `predicted` as `label`, by each source's own charts."""
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
    """Returns the name of the context of a source and a class. `_parts` splits it again."""
    return f"{len(source)} {source}{name}"


def _parts(context: str) -> tuple[str, str]:
    """Splits the name of a context into the source and the class."""
    length, _, source_and_name = context.partition(" ")
    return source_and_name[: int(length)], source_and_name[int(length) :]
