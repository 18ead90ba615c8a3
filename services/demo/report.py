"""The results of a run: a table, a JSON object, a plot.

Figures --> table (terminal), write_json (--json FILE), plot (--plot FILE)
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from evals.load.curve import Point
from evals.load.figures import Figures, Mark
from evals.streams.stream import Stream

GAP = 2.5
"""Widths of a bucket without an answer after which the curve is interrupted."""


def table(figures: Figures, stream: Stream) -> Table:
    """Returns the figures as a table for the terminal."""
    shown = Table(title=f"{stream.name}: {len(stream.stages)} stages, {stream.num_labels} labels", show_header=False)
    shown.add_column("figure")
    shown.add_column("value", justify="right")
    for name, value in _rows(figures).items():
        shown.add_row(name, value)
    return shown


def matrix(figures: Figures, stream: Stream) -> Table:
    """Returns the accuracy by stage: a row for the state after each stage."""
    names = [stage.name for stage in stream.stages[: len(figures.accuracy_by_stage)]]
    shown = Table(title="percent of the test items that were right, after each stage")
    shown.add_column("after")
    for name in names:
        shown.add_column(_short(name), justify="right")
    for name, row in zip(names, figures.accuracy_by_stage, strict=True):
        shown.add_row(name, *(f"{accuracy:.1f}" for accuracy in row))
    return shown


def write_json(figures: Figures, path: Path) -> None:
    """Writes one flat object, whose names are those of `Figures`."""
    path.write_text(json.dumps(figures.as_json(), indent=1) + "\n", encoding="utf-8")


def plot(points: Sequence[Point], tests: Sequence[Point], marks: Sequence[Mark], path: Path, *, title: str) -> None:
    """Draws a PNG of the accuracy over time, of answers and of tests, with a mark at each version's first answer."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    axes = figure.subplots()
    for arm, color in (("stable", "tab:green"), ("candidate", "tab:orange")):
        seconds = [second for second, name in marks if name == arm]
        axes.vlines(seconds, 0, 100, color=color, linewidth=0.7, alpha=0.5, label=f"new {arm} version ({len(seconds)})")
    seconds, percents = _with_gaps(points)
    axes.plot(seconds, percents, color="tab:blue", linewidth=1.6, label="answers, before their label was known")
    seconds = [point.second for point in tests]
    percents = [point.accuracy for point in tests]
    axes.plot(seconds, percents, "o--", color="black", linewidth=0.8, label="test items of all stages so far")
    axes.set(title=title, xlabel="seconds", ylabel="percent right", ylim=(0, 100))
    figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    figure.savefig(path, dpi=120)


def _with_gaps(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    """Returns the middle and the accuracy of each bucket, with NaN where the time between two stages is not drawn."""
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
    latency = figures.latency_ms
    stall = figures.swap_stall_ms
    return {
        "events sent, answered": f"{figures.events}, {figures.answers}",
        "lost, duplicates, dead letters": f"{figures.lost}, {figures.duplicates}, {figures.dead_letters}",
        "accuracy first seen": f"{figures.accuracy_first_seen:.2f} %",
        "accuracy at the end, all test items": f"{figures.accuracy_final:.2f} %",
        "forgetting": f"{figures.forgetting:.2f} points",
        "label to live, any arm, p50 / p95": f"{_number(live['p50'])} / {_number(live['p95'])} s",
        "label to live, stable arm, p50 / p95": f"{_number(live['stable_p50'])} / {_number(live['stable_p95'])} s",
        "latency p50 / p99": f"{_number(latency['p50'])} / {_number(latency['p99'])} ms",
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


def _arm(name: str, arm: Mapping[str, float]) -> str:
    return f"{name}: version {arm['version']}, {arm['answers']} answers, {arm['accuracy']:.1f} % right"


def _pairs(values: Mapping[str, Any], form: str) -> str:
    return ", ".join(f"{name} {form.format(value)}" for name, value in values.items()) or "-"


def _number(value: float | None) -> str:
    return "never" if value is None else f"{value:g}"


def _short(name: str) -> str:
    """Returns a column heading that is short enough for ten columns."""
    return name if len(name) <= 8 else f"{name[:7]}."
