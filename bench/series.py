"""Measures a series through a whole service: a table over HTTP, row by row, each answered before its label.

    row --its columns, key--> POST /v1/predict --right?--> POST /v1/feedback --the pace--> the next row

The service takes the columns and the labels of the two rows before from the series of the key (`serving.series`): the
inputs that the contenders of `lifelong bench learn --data elec2` get. A row of Elec2 is half an hour, and one of the
weather a day, in which any label is live. Here it is the pace that decides how many rows it takes, so a slower one is
fairer and takes longer.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.harness.case import Run
from bench.harness.service import fresh_stack
from bench.harness.texts import data_folder
from evals.results.row import NoResult, Row, Skip
from evals.streams.tabular import ELEC2, LAGS, TABLES, read_table
from learner.errors import DataError
from lifelong import Client, ClientError
from wire.inputs import Features

FIRST = {"elec2": 9_062, "weather": 5_448}
"""The rows before these chose the learner's settings, so they are left out."""

SETTINGS = {"serving.series.lags": LAGS, "serving.series.labels": len(LAGS)}
KEY = "place"
NUM_SPANS = 10
ELEC2_GOAL = ">= 90"

Measured = tuple[Features, str]
"""The columns of a row, and its label."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesSize:
    """The size of the benchmark."""

    data: str = ELEC2.name
    """elec2 or weather."""
    rows: int = 6_000
    """So many rows are played, after those of FIRST; the tables have 45,312 and 18,159."""
    rate: float = 10.0
    """Rows a second."""


def measure(run: Run) -> Iterator[Row]:
    size = run.sized(SeriesSize(), quick=SeriesSize(rows=200))
    rows = rows_of(size.data, size.rows)
    run.say(f"{len(rows)} rows, {size.rate:g} a second ...")
    with (
        fresh_stack(SETTINGS) as (stack, _, _),
        Client(f"http://127.0.0.1:{stack.settings.serving.http_port}") as client,
    ):
        named = list(play(rows, client, size.rate))
        if stack.num_restarts:
            raise NoResult(f"{stack.num_restarts} times a program of the service ended and was started again")
    goal = ELEC2_GOAL if size.data == ELEC2.name else None
    note = f"{size.data}, rows {FIRST[size.data] + 1} to {FIRST[size.data] + len(rows)}, {size.rate:g} a second"
    yield from figures([label for _, label in rows], named, goal, note)


def rows_of(name: str, num_rows: int) -> list[Measured]:
    """Returns rows of a table, those after FIRST. Raises Skip if it is not there, NoResult for another name."""
    if name not in TABLES:
        raise NoResult(f"there is no table {name!r}: say one of {', '.join(TABLES)}")
    table = TABLES[name]
    try:
        columns_ND, labels_N = read_table(table, data_folder())
    except DataError as error:
        raise Skip(str(error)) from error
    chosen = slice(FIRST[name], FIRST[name] + num_rows)
    pairs = zip(columns_ND[chosen].tolist(), labels_N[chosen].tolist(), strict=True)
    return [(dict(zip(table.columns, values, strict=True)), table.classes[label]) for values, label in pairs]


def play(
    rows: Sequence[Measured], client: Client, rate: float, *, clock_s: Callable[[], float] = time.monotonic
) -> Iterator[str | None]:
    """Yields what each row was named, None by a service that knows nothing. Raises NoResult where none answers."""
    start_s = clock_s()
    for number, (features, label) in enumerate(rows):
        time.sleep(max(start_s + number / rate - clock_s(), 0.0))
        try:
            answer = client.predict(features=features, key=KEY)
            client.feedback(answer, label)
        except ClientError as error:
            raise NoResult(f"row {number}: {error}") from error
        yield answer.label


def figures(labels: Sequence[str], named: Sequence[str | None], goal: str | None, note: str) -> Iterator[Row]:
    """Yields the accuracies of the answers as given, and of the label of the row before."""
    is_right = [name == label for name, label in zip(named, labels, strict=True)]
    size = -(-len(labels) // NUM_SPANS)
    spans = [is_right[first : first + size] for first in range(0, len(labels), size)]
    by_span = " ".join(f"{100 * sum(span) / len(span):.1f}" for span in spans)
    no_change = [label == before for label, before in zip(labels[1:], labels, strict=False)]
    yield Row.of("series.as_given", _percent(is_right), "%", goal=goal, note=f"{note}; by tenths {by_span}")
    yield Row.of("series.no_change", _percent(no_change), "%")


def _percent(is_right: Sequence[bool]) -> float:
    return round(100 * sum(is_right) / max(len(is_right), 1), 2)
