"""The state that the page shows, read from the reports of the service. A demo adds the figures that only it knows.

Operator.status, Operator.history --StateReader.read--> PageState: figures, tables, curves
Feed (a demo): the curves of the answers and of the oracle, the matrix of stages --> more figures, tables, curves
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import msgspec

from evals.load.curve import Point
from rollout.operator import Operator, RolloutStatus
from services.page.rates import ReplicaRates, ReplicaTraffic, quantile, sum_traffic
from services.page.tables import MAX_ROWS, Cell, Kind, PageColumn, PageTable, build_tables
from wire.errors import WireError
from wire.records import LABEL_TO_LIVE_BOUNDS_MS

MAX_POINTS: Final = 400
"""Largest number of points in a curve. Beyond it, every second point is dropped, and the interval is doubled."""

HISTORY_MS: Final = 86_400_000
"""Age of the oldest decisions that are shown."""


class PageFigure(msgspec.Struct, frozen=True):
    """A number that the page shows, with its name. `value` is None if the number is not known."""

    name: str
    value: Cell
    kind: Kind


class PageCurve(msgspec.Struct, frozen=True):
    """Accuracy in [0, 1] over time, in seconds since 1970; None is a gap."""

    name: str
    seconds: tuple[float, ...]
    values: tuple[float | None, ...]


class PageState(msgspec.Struct, frozen=True, kw_only=True):
    """The whole state that the page shows.

    - `problem`: why the state cannot be read now, with all other fields empty; else "".
    - `headline`: the three figures that are shown large.
    - `swaps`: the times, in seconds since 1970, at which another version became stable, with its number.
    """

    title: str
    time_ms: int
    problem: str = ""
    is_paused: bool = False
    headline: tuple[PageFigure, ...] = ()
    figures: tuple[PageFigure, ...] = ()
    curves: tuple[PageCurve, ...] = ()
    swaps: tuple[tuple[float, int], ...] = ()
    tables: dict[str, PageTable] = {}


class FedState(msgspec.Struct, frozen=True, kw_only=True):
    """The part of the state that only a demo knows: figures of its oracle, curves, and tables by id.

    `baseline` is the accuracy of a model that never learnt. It is shown large.
    """

    title: str
    baseline: PageFigure | None = None
    figures: tuple[PageFigure, ...] = ()
    curves: tuple[PageCurve, ...] = ()
    tables: dict[str, PageTable] = {}


Feed: TypeAlias = Callable[[], FedState]

RECENT_ACCURACY: Final = "right, last 1,000 answers"
ANSWER_RATE: Final = "answers a second"
LABEL_TO_LIVE: Final = "label to live p50"

NOTHING_FED: Final = FedState(title="Lifelong")


def nothing_fed() -> FedState:
    """The feed of `lifelong up`, which does not know the right answers: adds nothing."""
    return NOTHING_FED


class History:
    """A growing curve with at most MAX_POINTS points. Verbs: add, curve."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._points: list[tuple[float, float | None]] = []
        self._interval_s = 0.0

    def add(self, second: float, value: float | None) -> None:
        """Adds a point, unless the last point is too close in time."""
        if self._points and second - self._points[-1][0] < self._interval_s:
            return
        self._points.append((second, value))
        if len(self._points) > MAX_POINTS:
            self._points = self._points[::2]
            self._interval_s = (self._points[-1][0] - self._points[0][0]) / len(self._points)

    def curve(self) -> PageCurve:
        return PageCurve(
            self._name, tuple(second for second, _ in self._points), tuple(value for _, value in self._points)
        )


class StateReader:
    """Reads the state of the page. Only one thread may call `read`. A demo replaces `feed`."""

    def __init__(self, operator: Operator, *, now_ms: Callable[[], int], feed: Feed = nothing_fed) -> None:
        self.feed = feed
        self._operator = operator
        self._now_ms = now_ms
        self._rates = ReplicaRates()
        self._recent = History("last 1,000 answers")
        self._swaps: dict[int, float] = {}

    def read(self) -> PageState:
        """Returns the present state. Raises WireError if the store does not answer."""
        now_ms = self._now_ms()
        status = self._operator.status(entries=MAX_ROWS)
        decisions = self._operator.history(since_ms=now_ms - HISTORY_MS, entries=MAX_ROWS)
        traffic = self._rates.add(status.replicas)
        if status.learner is not None and status.learner.recent_accuracy:
            self._recent.add(1e-3 * now_ms, status.learner.recent_accuracy)
        self._note_swap(status)
        fed = self.feed()
        figures = build_figures(status, sum_traffic([*traffic.values()]))
        return PageState(
            title=fed.title,
            time_ms=now_ms,
            is_paused=status.plan is not None and status.plan.paused,
            headline=headline(figures, fed.baseline),
            figures=(*fed.figures, *figures),
            curves=(self._recent.curve(), *fed.curves),
            swaps=tuple((second, version) for version, second in self._swaps.items()),
            tables={**build_tables(status, decisions, traffic), **fed.tables},
        )

    def read_or_problem(self) -> PageState:
        """Returns the present state, or a state with the problem if the store does not answer."""
        try:
            return self.read()
        except WireError as error:
            return self.problem(error)

    def problem(self, error: Exception) -> PageState:
        """Returns a page state that has only the problem of an error."""
        return PageState(title=self.feed().title, time_ms=self._now_ms(), problem=str(error))

    def _note_swap(self, status: RolloutStatus) -> None:
        plan = status.plan
        if plan is None or not plan.stable or plan.stable in self._swaps:
            return
        self._swaps[plan.stable] = 1e-3 * (plan.stable_since_ms or plan.time_ms)
        while len(self._swaps) > MAX_ROWS:
            del self._swaps[next(iter(self._swaps))]


def headline(figures: Sequence[PageFigure], baseline: PageFigure | None) -> tuple[PageFigure, ...]:
    """Returns the figures that are shown large: accuracy now, the baseline, and the time from a label to its effect.

    Without a baseline, the rate of the answers takes its place.
    """
    by_name = {figure.name: figure for figure in figures}
    return (by_name[RECENT_ACCURACY], baseline or by_name[ANSWER_RATE], by_name[LABEL_TO_LIVE])


def build_figures(status: RolloutStatus, traffic: ReplicaTraffic) -> tuple[PageFigure, ...]:
    """Returns the figures from the reports of the service."""
    learner = status.learner
    controller = status.controller
    evaluation = learner.evaluation if learner else None
    counts = controller.label_to_live_counts if controller else ()
    lost = max(0.0, evaluation.anchor_accuracy - evaluation.accuracy_beside_anchor) if evaluation else None
    stalls_ms = [stall for report in status.replicas for stall in report.swap_stalls_ms]
    return (
        PageFigure(RECENT_ACCURACY, learner.recent_accuracy if learner else None, "percent"),
        PageFigure("right, all answers", learner.accuracy if learner else None, "percent"),
        PageFigure("right on the holdout", evaluation.accuracy if evaluation else None, "percent"),
        PageFigure("forgotten", lost, "percent"),
        PageFigure(ANSWER_RATE, traffic.per_s, "rate"),
        PageFigure("latency p50", traffic.latency_ms(0.5), "ms"),
        PageFigure("latency p99", traffic.latency_ms(0.99), "ms"),
        PageFigure(LABEL_TO_LIVE, quantile(counts, LABEL_TO_LIVE_BOUNDS_MS, 0.5), "ms"),
        PageFigure("label to live p95", quantile(counts, LABEL_TO_LIVE_BOUNDS_MS, 0.95), "ms"),
        PageFigure("not read yet", learner.lag if learner else None, "count"),
        PageFigure("in the replay memory", learner.replay_samples if learner else None, "count"),
        PageFigure("in the holdout", learner.holdout_samples if learner else None, "count"),
        PageFigure("classes", learner.num_classes if learner else None, "count"),
        PageFigure("learner's version", learner.version if learner else None, "count"),
        PageFigure("longest stall of a swap", max(stalls_ms, default=None), "ms"),
        PageFigure("skew between replicas", max(controller.swap_skews_ms, default=None) if controller else None, "ms"),
        PageFigure("drifts found", learner.num_drifts if learner else None, "count"),
    )


def build_curve(name: str, points: Sequence[Point], started_ms: int) -> PageCurve:
    """Returns a curve of the load generator with at most MAX_POINTS points; neighbouring points are merged."""
    size = -(-len(points) // MAX_POINTS) or 1
    seconds: list[float] = []
    values: list[float | None] = []
    for at in range(0, len(points), size):
        together = points[at : at + size]
        seconds.append(1e-3 * started_ms + together[0].second)
        answered = sum(point.answered for point in together)
        values.append(sum(point.right for point in together) / answered if answered else None)
    return PageCurve(name, tuple(seconds), tuple(values))


def matrix_table(rows: Sequence[Sequence[float]], names: Sequence[str]) -> PageTable:
    """Returns the accuracy by stage as a table: a row for the state after each tested stage. `rows` are in percent."""
    num_stages = max(map(len, rows), default=0)
    columns = (PageColumn("after"), *(PageColumn(name, "percent") for name in names[:num_stages]))
    cells = tuple(
        (names[len(row) - 1], *(accuracy / 100 for accuracy in row), *[None] * (num_stages - len(row))) for row in rows
    )
    return PageTable("Test items of each stage, right after each stage", columns, cells, "no stage is over yet")
