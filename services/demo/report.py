"""The output of a demo: a panel during the run, and at its end a table, a JSON file and a plot.

Ledger, Watcher --> a panel, drawn four times a second (terminal), or a line every five seconds (elsewhere)
Figures --> table (terminal), write_json (--json FILE), plot (--plot FILE)
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from evals.load.curve import Point
from evals.load.figures import Figures
from evals.load.ledger import TRAIN, Ledger, Progress
from evals.load.oracle import PrequentialFigures
from evals.load.score import Hits, percentiles
from evals.load.session import SessionOutcome
from evals.load.watcher import ServiceSnapshot, Watcher
from evals.streams.stream import Stream
from services.demo.change import Change
from services.demo.options import DemoOptions
from services.demo.second_domain import Moved
from wire.threads import BackgroundThread

ARM_COLORS = {"stable": "tab:green", "candidate": "tab:orange", "newest": "tab:purple"}
BESIDE_COLORS = {"oracle": "tab:red", "without learning": "tab:gray"}
BEFORE = "before their label was known"
GAP = 2.5
"""A curve is interrupted if there is no answer for this many widths of a bucket."""

LINE_EVERY_S = 5.0

FRAMES_PER_S = 4.0

RATE_OVER_S = 2.0


@dataclass(frozen=True, slots=True)
class Played:
    """The outcome of a run, and of its change of profile or its second domain, if it had one."""

    outcome: SessionOutcome
    change: Change | None = None
    moved: Moved | None = None

    @property
    def is_faulty(self) -> bool:
        """Whether an event was lost, or an answer mixed two versions."""
        return self.outcome.figures.lost > 0 or (self.change is not None and self.change.recomputed.mixed > 0)


def show(played: Played, stream: Stream, options: DemoOptions, console: Console) -> None:
    """Prints the tables, and writes the files that the options name."""
    console.print(stages_table(played.outcome.figures, stream))
    console.print(figures_table(played.outcome.figures, stream))
    if played.change is not None:
        console.print(played.change.line)
    if played.moved is not None:
        console.print(played.moved.lines)
    if options.json is not None:
        write_json(played, options.json)
    if options.plot is not None:
        plot(played.outcome, options.plot, title=f"{stream.name}: {stream.num_labels} labels, stage by stage")


def closing_lines(figures: Figures, page_port: int) -> str:
    """Returns the last lines of a run: what it has shown, the next command, and the page, if the port is not 0."""
    outcome = "none was lost" if not figures.lost else f"{figures.lost} were lost"
    live_s = _number(figures.label_to_live_s["p50"])
    without = "" if figures.prequential is None else f" ({figures.prequential.without_learning:.0f} % without learning)"
    page = f"\nPage: `lifelong demo --stay` keeps the service up, at http://127.0.0.1:{page_port}/."
    return (
        f"You saw {figures.answers} events answered while the model learnt: {outcome}. "
        f"{figures.accuracy_first_seen:.0f} % of the answers were right{without}, "
        f"and a label changed answers {live_s} s after it came (p50).\n"
        "Next: `lifelong up` starts the service for your own events (docs/tutorial.md)."
    ) + (page if page_port else "")


def figures_table(figures: Figures, stream: Stream) -> Table:
    """Returns the figures as a table for the terminal."""
    shown = Table(title=f"{stream.name}: {len(stream.stages)} stages, {stream.num_labels} labels", show_header=False)
    shown.add_column("figure")
    shown.add_column("value", justify="right")
    for name, value in _rows(figures).items():
        shown.add_row(name, value)
    return shown


def stages_table(figures: Figures, stream: Stream) -> Table:
    """Returns the table of the accuracy by stage: a row for the state after each stage."""
    rows = figures.accuracy_by_stage
    names = [stage.name for stage in stream.stages[: max(map(len, rows), default=0)]]
    shown = Table(title="percent of the test items that were right, after each stage")
    shown.add_column("after")
    for name in names:
        shown.add_column(_short(name), justify="right")
    for row in rows:
        shown.add_row(names[len(row) - 1], *(f"{accuracy:.1f}" for accuracy in row))
    return shown


def write_json(played: Played, path: Path) -> None:
    """Writes one flat JSON object with the fields of `Figures`, and with `change` and `domain` if there are any."""
    fields = played.outcome.figures.as_json()
    if played.change is not None:
        fields |= {"change": msgspec.to_builtins(played.change)}
    if played.moved is not None:
        fields |= {"domain": played.moved.fields()}
    path.write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")


def plot(outcome: SessionOutcome, path: Path, *, title: str) -> None:
    """Draws the accuracy over time as a PNG: answers, their references, and tests, with a mark at each version's first
    answer."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    axes = figure.subplots()
    for arm, color in ARM_COLORS.items():
        seconds = [second for second, name in outcome.marks if name == arm]
        axes.vlines(seconds, 0, 100, color=color, linewidth=0.7, alpha=0.5, label=f"new {arm} version ({len(seconds)})")
    axes.plot(*_with_gaps(outcome.curve), color="tab:blue", linewidth=1.6, label=f"answers, {BEFORE}")
    for name, points in outcome.beside.items():
        axes.plot(*_with_gaps(points), color=BESIDE_COLORS[name], linewidth=1.0, label=name)
    seconds = [point.second for point in outcome.tests]
    percents = [point.accuracy for point in outcome.tests]
    axes.plot(seconds, percents, "o--", color="black", linewidth=0.8, label="test items of all stages so far")
    axes.set(title=title, xlabel="seconds", ylabel="percent right", ylim=(0, 100))
    figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    figure.savefig(path, dpi=120)


def _with_gaps(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    """Returns the middle and the accuracy of each bucket, with NaN between stages, where the curve is interrupted."""
    seconds: list[float] = []
    percents: list[float] = []
    for index, point in enumerate(points):
        if index and point.second - points[index - 1].second > GAP * point.width_s:
            seconds.append(point.second)
            percents.append(math.nan)
        seconds.append(point.second + point.width_s / 2)
        percents.append(point.accuracy)
    return seconds, percents


def _rows(figures: Figures) -> dict[str, str]:
    live = figures.label_to_live_s
    publication = figures.publish_ms
    latency = figures.latency_ms
    stall = figures.swap_stall_ms
    return {
        "events sent, answered": f"{figures.events}, {figures.answers}",
        "lost, duplicates, dead letters": f"{figures.lost}, {figures.duplicates}, {figures.dead_letters}",
        "accuracy first seen": f"{figures.accuracy_first_seen:.2f} %",
        "of an instant oracle, and without learning": _comparison(figures.prequential),
        **{f"accuracy at the end, {kind}": f"{share:.2f} %" for kind, share in figures.accuracy_by_kind.items()},
        "accuracy at the end, all test items": f"{figures.accuracy_final:.2f} %",
        "forgetting": f"{figures.forgetting:.2f} points",
        "label to live, any arm, p50 / p95": f"{_number(live['p50'])} / {_number(live['p95'])} s",
        "label to live, stable arm, p50 / p95": f"{_number(live['stable_p50'])} / {_number(live['stable_p95'])} s",
        "label read to live, any arm, p50 / p95": f"{_number(publication['p50'])} / {_number(publication['p95'])} ms",
        "latency p50 / p99": f"{_number(latency['p50'])} / {_number(latency['p99'])} ms",
        "latency p99 of the first five seconds": f"{_number(latency['first_p99'])} ms",
        "answers a second, at full speed": f"{figures.events_per_s:.0f}",
        "versions published, swaps": f"{figures.versions_published}, {figures.swaps}",
        "programs and replicas started again": f"{figures.restarts}",
        "drifts found": f"{figures.drifts}",
        "swap stall p50 / p99": f"{_number(stall['p50'])} / {_number(stall['p99'])} ms",
        "arms": "\n".join(_arm(name, arm) for name, arm in figures.arms.items()) or "-",
        "answers by precision": _pairs(figures.precisions, "{:,}"),
        "parity with full precision": _pairs(figures.parity, "{:.5f}"),
        "bytes of weights": _pairs(figures.model_bytes, "{:,}"),
    }


def _comparison(prequential: PrequentialFigures | None) -> str:
    """Returns the references of the accuracy first seen, with the ratio to the oracle."""
    if prequential is None or prequential.ratio is None:
        return "-"
    return f"{prequential.oracle:.2f} % (ratio {prequential.ratio:.3f}), {prequential.without_learning:.2f} %"


def _arm(name: str, arm: Mapping[str, float]) -> str:
    return f"{name}: version {arm['version']}, {arm['answers']} answers, {arm['accuracy']:.1f} % right"


def _pairs(values: Mapping[str, Any], form: str) -> str:
    return ", ".join(f"{name} {form.format(value)}" for name, value in values.items()) or "-"


def _number(value: float | None) -> str:
    return "never" if value is None else f"{value:g}"


def _short(name: str) -> str:
    """Returns a column heading that is short enough for ten columns."""
    return name if len(name) <= 8 else f"{name[:7]}."


class View:
    """Shows a run during the block: as a panel in a terminal, else as lines."""

    def __init__(self, console: Console, stream: Stream, ledger: Ledger, watcher: Watcher) -> None:
        self._console = console
        self._stream = stream
        self._ledger = ledger
        self._watcher = watcher
        self._counts: list[tuple[float, int]] = []
        self._live = Live(console=console, get_renderable=self._frame, refresh_per_second=FRAMES_PER_S, transient=True)
        self._lines = BackgroundThread(self._say_lines, name="demo-view")

    def __enter__(self) -> "View":
        if self._console.is_terminal:
            self._live.start(refresh=True)
        else:
            self._lines.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        if self._console.is_terminal:
            self._live.stop()

    def _say_lines(self) -> None:
        """Prints a line every LINE_EVERY_S.

        consumes: ledger and snapshot; produces: lines; waits for: five seconds; unblocked by: the end of the block
        """
        while not self._lines.closing.wait(LINE_EVERY_S):
            progress = self._ledger.progress()
            rate = update_rate(self._counts, progress.counts.answered, time.monotonic())
            say(self._console, progress_line(progress, self._watcher.snapshot(), rate))

    def _frame(self) -> Group:
        progress = self._ledger.progress()
        rate = update_rate(self._counts, progress.counts.answered, time.monotonic())
        return progress_panel(self._stream, progress, self._watcher.snapshot(), rate)


def say(console: Console, text: str) -> None:
    """Prints a line, above the panel if there is one. Any thread may call it."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def update_rate(counts: list[tuple[float, int]], answered: int, now_s: float) -> float:
    """Adds a count to `counts`; returns the answers per second over about the last RATE_OVER_S seconds."""
    counts.append((now_s, answered))
    while len(counts) > 2 and now_s - counts[1][0] >= RATE_OVER_S:
        counts.pop(0)
    since_s, count = counts[0]
    return (answered - count) / (now_s - since_s) if now_s > since_s else 0.0


def progress_line(progress: Progress, snapshot: ServiceSnapshot, rate: float) -> str:
    """Returns the state of a run as one line."""
    counts = progress.counts
    latency = percentiles(progress.recent_ms, 50, 99)
    return (
        f"  {counts.answered} of {counts.sent} answered, {rate:.0f}/s, p50 {_number_or_dash(latency['p50'])} p99 "
        f"{_number_or_dash(latency['p99'])} ms | first seen {progress.of_round(TRAIN).accuracy:.1f} % right, "
        f"{counts.labelled} labels | {_arms(snapshot)} | {snapshot.published} versions, {snapshot.swaps} swaps, "
        f"{snapshot.drifts} drifts"
    )


def progress_panel(stream: Stream, progress: Progress, snapshot: ServiceSnapshot, rate: float) -> Group:
    """Returns the state of a run as a panel of half a screen."""
    counts = progress.counts
    latency = percentiles(progress.recent_ms, 50, 99)
    trained = progress.of_round(TRAIN)
    head = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=stream.num_events, completed=trained.answered, width=40)
    head.add_row(bar, f"{trained.answered} of {stream.num_events} training events, {counts.labelled} labels returned")
    facts = Table.grid(padding=(0, 2))
    facts.add_row("answers", f"{rate:.0f} a second, {counts.outstanding} waiting")
    facts.add_row("latency", f"p50 {_number_or_dash(latency['p50'])} ms, p99 {_number_or_dash(latency['p99'])} ms")
    facts.add_row("right at first sight", f"{trained.accuracy:.1f} %")
    facts.add_row("arms", _arms(snapshot))
    facts.add_row("learner", _learner(snapshot))
    facts.add_row("drift", f"{snapshot.drifts} found, the last: {snapshot.drift}" if snapshot.drift else "none found")
    facts.add_row("swaps", f"{snapshot.swaps} in {len(snapshot.reports)} replicas")
    return Group(Text(), head, facts, _stages(stream, progress))


def _stages(stream: Stream, progress: Progress) -> Table:
    table = Table(title="percent right", title_justify="left")
    table.add_column("stage")
    for name in ("events", "at first sight", "test items, last time", "best"):
        table.add_column(name, justify="right")
    for index, stage in enumerate(stream.stages):
        train = progress.hits.get((TRAIN, index), Hits())
        at_first_sight = f"{train.accuracy:.1f}" if train.sent else ""
        tests = _finished_tests(progress, index)
        last = f"{tests[-1].accuracy:.1f}" if tests else ""
        best = f"{max(hits.accuracy for hits in tests):.1f}" if tests else ""
        table.add_row(stage.name, f"{train.answered}/{len(stage.train)}", at_first_sight, last, best)
    return table


def _finished_tests(progress: Progress, stage_index: int) -> list[Hits]:
    """Returns the results of a stage's test items in each finished test round, in the order of the rounds.

    A test round is finished when every test item that was sent has its answer.
    """
    tests = []
    for (round_number, index), hits in sorted(progress.hits.items()):
        if index == stage_index and round_number >= 0 and hits.answered == hits.sent:
            tests.append(hits)
    return tests


def _arms(snapshot: ServiceSnapshot) -> str:
    if snapshot.plan is None:
        return "no plan yet"
    return ", ".join(f"{arm.name} v{arm.version} {arm.share:.0%}" for arm in snapshot.plan.arms)


def _learner(snapshot: ServiceSnapshot) -> str:
    """Returns the learner's evaluation of the current version as text."""
    evaluation = snapshot.evaluation
    if evaluation is None:
        return "nothing published yet"
    return (
        f"version {snapshot.current}, {snapshot.published} published; on {evaluation.num_labels} holdout labels "
        f"{evaluation.accuracy:.1%} right (before: {evaluation.parent_accuracy:.1%})"
    )


def _number_or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
