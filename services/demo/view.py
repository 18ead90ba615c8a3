"""The display of a running demo.

    Ledger, Watcher --> a panel, drawn four times a second (terminal), or a line every five seconds (elsewhere)

Rejected: a progress bar alone. The accuracy per stage and the changes of versions are what is worth watching.
"""

import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from evals.load.ledger import TRAIN, Ledger, Progress
from evals.load.score import Hits, percentiles
from evals.load.watcher import ServiceSnapshot, Watcher
from evals.streams.stream import Stream
from wire.threads import BackgroundThread

LINE_EVERY_S = 5.0
FRAMES_PER_S = 4.0
RATE_OVER_S = 2.0


class View:
    """Shows a run while its block is executed."""

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
            rate = rate_of(self._counts, progress.counts.answered, time.monotonic())
            say(self._console, line(progress, self._watcher.snapshot(), rate))

    def _frame(self) -> Group:
        progress = self._ledger.progress()
        rate = rate_of(self._counts, progress.counts.answered, time.monotonic())
        return panel(self._stream, progress, self._watcher.snapshot(), rate)


def say(console: Console, text: str) -> None:
    """Prints a line, above the panel where there is one. Any thread may call it."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def rate_of(counts: list[tuple[float, int]], answered: int, now_s: float) -> float:
    """Adds a count to `counts`; returns answers a second since the oldest of the last RATE_OVER_S seconds or so."""
    counts.append((now_s, answered))
    while len(counts) > 2 and now_s - counts[1][0] >= RATE_OVER_S:
        counts.pop(0)
    since_s, count = counts[0]
    return (answered - count) / (now_s - since_s) if now_s > since_s else 0.0


def line(progress: Progress, snapshot: ServiceSnapshot, rate: float) -> str:
    """Returns the state of a run as one line."""
    counts = progress.counts
    latency = percentiles(progress.recent_ms, 50, 99)
    return (
        f"  {counts.answered} of {counts.sent} answered, {rate:.0f}/s, p50 {_number(latency['p50'])} p99 "
        f"{_number(latency['p99'])} ms | first seen {progress.of_round(TRAIN).accuracy:.1f} % right, "
        f"{counts.labelled} labels | {_arms(snapshot)} | {snapshot.published} versions, {snapshot.swaps} swaps, "
        f"{snapshot.drifts} drifts"
    )


def panel(stream: Stream, progress: Progress, snapshot: ServiceSnapshot, rate: float) -> Group:
    """Returns the state of a run as a panel of half a screen."""
    counts = progress.counts
    latency = percentiles(progress.recent_ms, 50, 99)
    trained = progress.of_round(TRAIN)
    head = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=stream.num_events, completed=trained.answered, width=40)
    head.add_row(bar, f"{trained.answered} of {stream.num_events} training events, {counts.labelled} labels returned")
    facts = Table.grid(padding=(0, 2))
    facts.add_row("answers", f"{rate:.0f} a second, {counts.outstanding} waiting")
    facts.add_row("latency", f"p50 {_number(latency['p50'])} ms, p99 {_number(latency['p99'])} ms")
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
    """Returns the hits of the stage in every test round that is over, in order."""
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
    """Returns the learner's evaluation of the current version, in words."""
    evaluation = snapshot.evaluation
    if evaluation is None:
        return "nothing published yet"
    return (
        f"version {snapshot.current}, {snapshot.published} published; on {evaluation.num_labels} holdout labels "
        f"{evaluation.accuracy:.1%} right (before: {evaluation.parent_accuracy:.1%})"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
