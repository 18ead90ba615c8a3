"""CUSUM charts: one for every outcome in every context, raised where the outcome becomes far more frequent. Pure.

    add(context, outcome) -> S = max(0, S + log(p1/p0)) for that outcome, S + log((1-p1)/(1-p0)) for the others there
    S >= THRESHOLD        -> raised, until S is 0 again

S is the cumulative sum of log likelihood ratios of Page (1954), for Bernoulli trials (Reynolds and Stoumbos 1999, "A
CUSUM chart for monitoring a proportion when inspecting continuously"): p1 is the out-of-control rate, which is to be
detected, and p0 the in-control rate. Here p0 follows the stream. It is at least IN_CONTROL, and higher in two cases:
the outcome has been as frequent in this context for long (its running mean), or other contexts go as wrong now (the
share of wrong outcomes among their last RECENT trials). So three things raise no chart: a change that all contexts
share, what was always so, and a context that is new, since its mean begins with its first trials.

By Wald's inequality a chart in control reaches the threshold in a share of at most exp(-THRESHOLD) = 1/10,000 of the
excursions from 0. At p0 = 0.1 six wrong outcomes in a row reach it, and so do 18 trials of which every second is wrong.
The sum is clipped at the threshold, so an alarm ends some 16 trials of its context after its cause.

Rejected: a binomial test over a window (its delay is the window's, for small changes and large ones alike), and ADWIN
(one test for each cut of the window, and a mean that falls is a change to it, too).
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from copy import copy
from math import log
from typing import Final

import msgspec

OUT_OF_CONTROL: Final = 0.5
"""Rate p1 of an outcome that is to be detected."""

IN_CONTROL: Final = 0.1
"""Lowest in-control rate p0."""

MAX_RATIO_TO_OTHERS = 2.0
MAX_RATIO_TO_MEAN = 1.5
"""An outcome is in control up to this ratio of its rate to the rate in other contexts, or to its running mean."""

THRESHOLD: Final = log(10_000)
RECENT: Final = 100
"""Last trials of all contexts, among which the share of wrong outcomes is taken."""

MIN_OTHERS: Final = 25
"""Nothing is compared with fewer recent trials of other contexts than this."""

MEAN_TRIALS: Final = 200
"""Trials of a context over which the running mean of an outcome is taken."""

MAX_CONTEXTS: Final = 512
MAX_OUTCOMES: Final = 8
MAX_SOURCES: Final = 16
"""The most sources that are counted of an outcome."""

MAX_EVENTS: Final = 128
"""The most events that are remembered of an outcome, the last ones: most charts are raised by fewer than twenty."""


class Chart(msgspec.Struct, array_like=True):
    """Holds one outcome in one context: its running mean, its sum, and whether it is raised.

    `sources` counts by whom the outcome came since the sum was 0, and `events` has the hashes of the events that it
    came with until the chart was raised.
    """

    mean: float = 0.0
    sum: float = 0.0
    is_raised: bool = False
    sources: dict[str, int] = {}
    events: list[int] = []

    def count(self, source: str, event: int) -> None:
        """Counts the outcome once more, as from `source` and with `event`."""
        if source in self.sources or len(self.sources) < MAX_SOURCES:
            self.sources[source] = self.sources.get(source, 0) + 1
        if not self.is_raised:
            self.events.append(event)
            del self.events[:-MAX_EVENTS]


class Context(msgspec.Struct, array_like=True):
    """Holds the number of trials of a context, and its charts by outcome."""

    num: int
    charts: dict[str, Chart]


class ChartsState(msgspec.Struct, frozen=True, kw_only=True):
    """Holds `contexts` in the order of their last trial; `recent` has each trial's context and whether it was wrong."""

    contexts: dict[str, Context] = {}
    recent: list[tuple[str, bool]] = []


class Charts:
    """Holds the charts of at most `max_contexts` contexts (LRU), and of at most MAX_OUTCOMES outcomes in each.

    Where a context has too many charts, those with the lowest sums go first.
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
        """Adds one trial, which `source` has judged of `event`. `outcome` is what went wrong, None where nothing did.

        A trial that is not charted only enters the means. `rate_elsewhere` returns the rate of an outcome elsewhere;
        without it that is the share of all that went wrong in other contexts.
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
        """Returns how often each source had the outcome since its sum was 0."""
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
        """Returns the chart of an outcome in a context, a new one where there is none."""
        entry = self._contexts.get(context)
        return entry.charts.get(outcome, Chart()) if entry else Chart()

    def contexts(self) -> list[str]:
        return list(self._contexts)

    def export(self) -> ChartsState:
        return ChartsState(contexts=_copy_contexts(self._contexts), recent=list(self._recent))

    def _wrong_share_elsewhere(self, context: str) -> float:
        """Returns the share of recent trials in other contexts that went wrong; 1 where there are too few of them."""
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
    """Returns charts whose outcomes and contexts have other names; "" goes.

    Of several that get one name, the one that was tried last stays.
    """
    contexts = dict[str, Context]()
    for name, entry in _copy_contexts(state.contexts).items():
        charts = {name_of(outcome): chart for outcome, chart in entry.charts.items() if name_of(outcome)}
        if context_of(name):
            contexts.pop(context_of(name), None)
            contexts[context_of(name)] = Context(entry.num, charts)
    return ChartsState(contexts=contexts, recent=[(context_of(name), is_wrong) for name, is_wrong in state.recent])


def _in_control_rate(chart: Chart, wrong_elsewhere: float) -> float:
    """Returns p0 of a chart. It is at most p1, where the sum stands still, as nothing can be told from the chart."""
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
    """Returns the MAX_OUTCOMES charts with the highest sums; one whose sum is 0 and whose mean is tiny is dropped."""
    active = {name: chart for name, chart in charts.items() if chart.sum > 0 or chart.mean > 1 / MEAN_TRIALS}
    if len(active) <= MAX_OUTCOMES:
        return active
    return dict(sorted(active.items(), key=lambda pair: (-pair[1].sum, -pair[1].mean))[:MAX_OUTCOMES])
