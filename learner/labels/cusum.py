"""Where one outcome becomes far more frequent than it was: a CUSUM chart for every outcome in every context. Pure.

    add(context, outcome) -> S = max(0, S + log(p1/p0)) for that outcome, S + log((1-p1)/(1-p0)) for the others there
    S >= THRESHOLD        -> raised, until S is 0 again

The cumulative sum of log likelihood ratios of Page (1954), for Bernoulli trials (Reynolds and Stoumbos 1999, "A CUSUM
chart for monitoring a proportion when inspecting continuously"): p1 is the frequency to be noticed, p0 the one that is
in order. Here p0 follows the stream: at least IN_ORDER, and more where the outcome has been as frequent in this context
for long (its running mean), or where other contexts go as wrong now (the share of wrong outcomes among their last
RECENT trials). So a change that all contexts share raises nothing, nor does what was always so, nor a context that is
new: its mean begins where its first trials are.

By Wald's inequality a chart in order reaches the threshold in a share of at most exp(-THRESHOLD) = 1/10,000 of the
excursions from 0. At p0 = 0.1 six wrong outcomes in a row do it, or 18 trials of which every second is wrong. A sum
goes no further than the threshold, so an alarm ends some 16 trials of its context after its cause.

Rejected: a binomial test over a window (its delay is the window's, for small changes and large ones alike), and ADWIN
(one test for each cut of the window, and a mean that falls is a change to it, too).
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from copy import copy
from math import log
from typing import Final

import msgspec

TO_BE_NOTICED: Final = 0.5
IN_ORDER: Final = 0.1
ABOVE_OTHERS = 2.0
ABOVE_BEFORE = 1.5
"""In order is what is at most so many times as frequent as elsewhere, or as before."""

THRESHOLD: Final = log(10_000)
RECENT: Final = 100
MIN_OTHERS: Final = 25
"""Trials of other contexts without which nothing is compared."""

MEMORY: Final = 200
"""Trials of a context over which the running mean of an outcome is taken."""

MAX_CONTEXTS: Final = 512
MAX_OUTCOMES: Final = 8


class Chart(msgspec.Struct, array_like=True):
    """One outcome in one context: its running mean, its sum, and whether it is raised."""

    mean: float = 0.0
    sum: float = 0.0
    is_raised: bool = False


class Context(msgspec.Struct, array_like=True):
    """The trials of a context, and its charts by outcome."""

    num: int
    charts: dict[str, Chart]


class ChartsState(msgspec.Struct, frozen=True, kw_only=True):
    """`contexts` in the order of their last trial; `recent`: the context of a trial, and whether it was wrong."""

    contexts: dict[str, Context] = {}
    recent: list[tuple[str, bool]] = []


class Charts:
    """At most MAX_CONTEXTS contexts, the longest silent out first; in each MAX_OUTCOMES charts, the lowest first."""

    def __init__(self, state: ChartsState | None = None) -> None:
        state = state or ChartsState()
        self._contexts = OrderedDict(_copied(state.contexts))
        self._recent = deque(state.recent)
        self._trials = Counter(name for name, _ in self._recent)
        self._wrong = Counter(name for name, is_wrong in self._recent if is_wrong)
        self._num_wrong = self._wrong.total()

    def add(self, context: str, outcome: str | None, *, is_charted: bool = True) -> None:
        """One trial: `outcome` is what went wrong, None where nothing did. Not charted, it only enters the means."""
        elsewhere = self._elsewhere(context)
        self._note(context, is_wrong=outcome is not None)
        it = self._contexts.pop(context, None) or Context(0, {})
        self._contexts[context] = it
        it.num += 1
        if outcome is not None:
            it.charts.setdefault(outcome, Chart())
        for name, chart in it.charts.items():
            p0 = _in_order(chart, elsewhere)
            if not chart.sum:  # what is under suspicion never becomes what was always so
                chart.mean += ((name == outcome) - chart.mean) * max(1 / it.num, 1 / MEMORY)
            if name != outcome:
                chart.sum = max(chart.sum + log((1 - TO_BE_NOTICED) / (1 - p0)), 0.0)
            elif is_charted:
                chart.sum = min(chart.sum + log(TO_BE_NOTICED / p0), THRESHOLD)
            chart.is_raised = chart.sum >= THRESHOLD or (chart.is_raised and chart.sum > 0.0)
        it.charts = _highest(it.charts)
        if len(self._contexts) > MAX_CONTEXTS:
            self._contexts.popitem(last=False)

    def is_raised(self, context: str, outcome: str) -> bool:
        it = self._contexts.get(context)
        return it is not None and outcome in it.charts and it.charts[outcome].is_raised

    def raised(self) -> list[tuple[str, str]]:
        """Every (context, outcome) that is raised."""
        return [
            (context, outcome)
            for context, it in self._contexts.items()
            for outcome, chart in it.charts.items()
            if chart.is_raised
        ]

    def num_trials(self, context: str) -> int:
        it = self._contexts.get(context)
        return it.num if it else 0

    def export(self) -> ChartsState:
        return ChartsState(contexts=_copied(self._contexts), recent=list(self._recent))

    def _elsewhere(self, context: str) -> float:
        """The share of recent trials in other contexts that went wrong; 1 where there are too few to say."""
        num = len(self._recent) - self._trials[context]
        return (self._num_wrong - self._wrong[context]) / num if num >= MIN_OTHERS else 1.0

    def _note(self, context: str, *, is_wrong: bool) -> None:
        self._recent.append((context, is_wrong))
        self._count(context, 1, is_wrong)
        if len(self._recent) > RECENT:
            gone, was_wrong = self._recent.popleft()
            self._count(gone, -1, was_wrong)
            if not self._trials[gone]:
                del self._trials[gone], self._wrong[gone]

    def _count(self, context: str, by: int, is_wrong: bool) -> None:
        self._trials[context] += by
        self._wrong[context] += by * is_wrong
        self._num_wrong += by * is_wrong


def _in_order(chart: Chart, elsewhere: float) -> float:
    """p0 of a chart: so close to `TO_BE_NOTICED`, where nothing can be told from it, that the sum stands still."""
    return min(max(IN_ORDER, ABOVE_BEFORE * chart.mean, ABOVE_OTHERS * elsewhere), TO_BE_NOTICED)


def _copied(contexts: Mapping[str, Context]) -> dict[str, Context]:
    return {
        name: Context(it.num, {outcome: copy(chart) for outcome, chart in it.charts.items()})
        for name, it in contexts.items()
    }


def _highest(charts: dict[str, Chart]) -> dict[str, Chart]:
    """The charts that say most; one that says nothing any more goes."""
    kept = {name: chart for name, chart in charts.items() if chart.sum > 0 or chart.mean > 1 / MEMORY}
    if len(kept) <= MAX_OUTCOMES:
        return kept
    return dict(sorted(kept.items(), key=lambda pair: (-pair[1].sum, -pair[1].mean))[:MAX_OUTCOMES])
