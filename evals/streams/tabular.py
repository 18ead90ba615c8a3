"""Turns a table in the order of time into a benchmark: ten spans of time, with lag features in each row.

    elec2      electricity prices in New South Wales, every half hour from May 1996 to December 1998 (Harries 1999):
               does the price go up or down, compared with its mean over the last 24 hours?
    weather    the weather at an air base in Nebraska, every day from 1949 to 1999 (Elwell and Polikar 2011): does it
               rain?

The label of a row is known before the next row is predicted, so past labels are allowed as inputs. The inputs of row t
are its own columns, and for each lag k the columns and the label of row t - k. They contain nothing of later rows, not
the row's own label, and no feature that was designed for the data set, in particular no mean of prices over a day,
which defines the label. A learner without past rows hardly beats "the same label as last time".

Shape suffixes: N rows, D columns, C classes, F inputs.
"""

import csv
import gzip
import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from evals.streams.benchmark import Benchmark, Part
from evals.streams.stream import Stage
from learner.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table in the order of time.

    `file` is in the folder `name`. The last column is an index into `classes`.
    """

    name: str
    file: str
    columns: tuple[str, ...]
    label: str
    classes: tuple[str, str]

    @property
    def header(self) -> list[str]:
        """The first line of the file."""
        return [*self.columns, self.label]

    @property
    def howto(self) -> str:
        """The fix if the file is missing or invalid, for error messages."""
        return f"put {self.file} in a folder {self.name}, and let LIFELONG_DATA name the folder around it"


ELEC2: Final = Table(
    name="elec2",
    file="elec.csv.gz",
    columns=("period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer"),
    label="class",
    classes=("down", "up"),
)
WEATHER: Final = Table(
    name="weather",
    file="weather.csv.gz",
    columns=tuple(f"feat_{number}" for number in range(1, 9)),
    label="target",
    classes=("dry", "rain"),
)
TABLES: Final = {table.name: table for table in (ELEC2, WEATHER)}

LAGS: Final = (1, 2)
"""The lags in rows. They were chosen on the first fifth of Elec2, where they are the last hour. With two more lags our
learner gains half a point there, and the forest, which gets the same inputs, loses one and a half points."""
NUM_SPANS: Final = 10


def series(table: Table, data: Path | None) -> Benchmark[Tensor]:
    """Loads a table as a benchmark. `data` is the folder of data sets. Raises DataError."""
    columns_ND, labels_N = read_table(table, data)
    inputs_NF = with_past(columns_ND, labels_N, LAGS, num_classes=len(table.classes))
    spans = zip(inputs_NF.tensor_split(NUM_SPANS), labels_N.tensor_split(NUM_SPANS), strict=True)
    parts = [Part(inputs, labels) for inputs, labels in spans]
    stages = tuple(Stage(f"tenth {number}", part, part) for number, part in enumerate(parts, start=1))
    return Benchmark(table.name, table.classes, stages, is_ordered=True)


def with_past(columns_ND: Tensor, labels_N: Tensor, lags: Sequence[int], *, num_classes: int) -> Tensor:
    """Returns inputs_NF: the columns of each row, then for each lag the columns and the one-hot label of the past row.

    The lag features are 0 if there is no such row.
    """
    known = torch.cat([columns_ND, torch.nn.functional.one_hot(labels_N, num_classes).to(columns_ND)], dim=1)
    past = [torch.cat([torch.zeros_like(known[:lag]), known])[: len(known)] for lag in lags]
    return torch.cat([columns_ND, *past], dim=1)


def past_labels(num_inputs: int, lags: Sequence[int], *, num_classes: int) -> list[list[int]]:
    """Returns, for each lag, the columns of inputs_NF with the one-hot label of the past row.

    Returns [] if the inputs are too few to contain lag features.

    >>> past_labels(22, (1, 2), num_classes=2), past_labels(1, (1, 2), num_classes=2)
    ([[12, 13], [20, 21]], [])
    """
    num_columns = (num_inputs - len(lags) * num_classes) // (1 + len(lags))
    if num_columns < 1:
        return []
    ends = [num_columns + (place + 1) * (num_columns + num_classes) for place in range(len(lags))]
    return [list(range(end - num_classes, end)) for end in ends]


def read_table(table: Table, data: Path | None) -> tuple[Tensor, Tensor]:
    """Reads columns_ND (float64) and labels_N of a gzipped CSV file. Raises DataError, which names the line."""
    if data is None:
        raise DataError(f"{table.name}: LIFELONG_DATA names no folder of data sets; {table.howto}")
    path = data / table.name / table.file
    try:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; {table.howto}") from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: no gzipped text ({error}); {table.howto}") from error
    header, *rows = csv.reader(lines) if lines else [[]]
    if header != table.header or len(rows) < NUM_SPANS:
        raise DataError(f"{path}: not {', '.join(table.header)} above at least {NUM_SPANS} rows; {table.howto}")
    numbers = [_numbers(row, table, f"{path}:{line}") for line, row in enumerate(rows, start=2)]
    values = torch.tensor(numbers, dtype=torch.float64)
    return values[:, :-1], values[:, -1].long()


def _numbers(row: Iterable[str], table: Table, place: str) -> list[float]:
    try:
        numbers = [float(cell) for cell in row]
    except ValueError as error:
        raise DataError(f"{place}: {error}; {table.howto}") from error
    size = len(table.header)
    if len(numbers) != size or not all(map(math.isfinite, numbers)) or numbers[-1] not in range(len(table.classes)):
        raise DataError(f"{place}: not {size} numbers, the last of them 0 or 1; {table.howto}")
    return numbers
