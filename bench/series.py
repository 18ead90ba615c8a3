"""Measures a series through a whole service: a table over HTTP, row by row, each answered before its label.

    row --its columns, key--> POST /v1/predict --right?--> POST /v1/feedback --wait for the next row's time--> next row

From the series of the key (`serving.series`) the service adds the columns and the labels of the two rows before, so it
has the same inputs as the learners of `lifelong bench learn --data elec2`. In reality a row of Elec2 comes every half
hour and a row of the weather every day, so a label is learnt long before the next row. Here rows come faster, and a
label is live only some rows later. A lower rate is closer to reality and takes longer.
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
"""Table -> the first row that is played. The earlier rows chose the learner's settings, so they are left out."""

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
    """The name of the table: elec2 or weather."""
    rows: int = 6_000
    """The number of rows that are played, from FIRST on. The tables have 45,312 and 18,159 rows."""
    rate: float = 10.0
    """The rate, in rows a second."""


def measure(run: Run) -> Iterator[Row]:
    size = run.sized(SeriesSize(), quick=SeriesSize(rows=200))
    rows = load_rows(size.data, size.rows)
    run.say(f"{len(rows)} rows, {size.rate:g} a second ...")
    with (
        fresh_stack(SETTINGS) as (stack, _, _),
        Client(f"http://127.0.0.1:{stack.settings.serving.http_port}") as client,
    ):
        predicted = list(play(rows, client, size.rate))
        if stack.num_restarts:
            raise NoResult(f"programs of the service ended and were restarted {stack.num_restarts} times")
    goal = ELEC2_GOAL if size.data == ELEC2.name else None
    note = f"{size.data}, rows {FIRST[size.data] + 1} to {FIRST[size.data] + len(rows)}, {size.rate:g} a second"
    yield from figures([label for _, label in rows], predicted, goal, note)


def load_rows(name: str, num_rows: int) -> list[Measured]:
    """Returns `num_rows` rows of a table, from FIRST on.

    Raises Skip if the data is missing, and NoResult if there is no table with this name.
    """
    if name not in TABLES:
        raise NoResult(f"there is no table {name!r}; use one of {', '.join(TABLES)}")
    table = TABLES[name]
    try:
        columns_ND, labels_N = read_table(table, data_folder())
    except DataError as error:
        raise Skip(str(error)) from error
    played = slice(FIRST[name], FIRST[name] + num_rows)
    pairs = zip(columns_ND[played].tolist(), labels_N[played].tolist(), strict=True)
    return [(dict(zip(table.columns, values, strict=True)), table.classes[label]) for values, label in pairs]


def play(
    rows: Sequence[Measured], client: Client, rate: float, *, clock_s: Callable[[], float] = time.monotonic
) -> Iterator[str | None]:
    """Yields the predicted label of each row; None while the service knows no class.

    Raises NoResult if the service does not answer.
    """
    start_s = clock_s()
    for number, (features, label) in enumerate(rows):
        time.sleep(max(start_s + number / rate - clock_s(), 0.0))
        try:
            answer = client.predict(features=features, key=KEY)
            client.feedback(answer, label)
        except ClientError as error:
            raise NoResult(f"row {number}: {error}") from error
        yield answer.label


def figures(labels: Sequence[str], predicted: Sequence[str | None], goal: str | None, note: str) -> Iterator[Row]:
    """Yields the accuracy of the answers, and of the no-change baseline, which predicts the label of the row before."""
    is_right = [answer == label for answer, label in zip(predicted, labels, strict=True)]
    size = -(-len(labels) // NUM_SPANS)
    spans = [is_right[first : first + size] for first in range(0, len(labels), size)]
    by_span = " ".join(f"{100 * sum(span) / len(span):.1f}" for span in spans)
    no_change = [label == before for label, before in zip(labels[1:], labels, strict=False)]
    yield Row.of("series.as_given", _percent(is_right), "%", goal=goal, note=f"{note}; by tenths {by_span}")
    yield Row.of("series.no_change", _percent(no_change), "%")


def _percent(is_right: Sequence[bool]) -> float:
    return round(100 * sum(is_right) / max(len(is_right), 1), 2)
