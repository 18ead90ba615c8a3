"""The rows of a file of history, one after the other: lines of JSON, CSV with a header, or Parquet.

    FILE --form_of its name--> SourceRow(place, raw, fields)        fields of a row that cannot be read: a BadMessage

A row that cannot be read never ends the file: the next one is read all the same. Memory is bounded by MAX_EVENT_BYTES a
row, and by the row groups of Parquet.

Rejected: pandas (it reads a file as a whole, and guesses types: an id "007" would be 7).
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeAlias

import msgspec

from wire.errors import BadMessage
from wire.message import json_object, shown
from wire.records import MAX_EVENT_BYTES

Form: TypeAlias = Literal["jsonl", "csv", "tsv", "parquet"]

SUFFIXES: Final[Mapping[str, Form]] = {".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".pq": "parquet"}
_SURROGATE: Final = re.compile("[\udc80-\udcff]")
"""What stands for a byte that is not UTF-8."""

DELIMITERS: Final = {"csv": ",", "tsv": "\t"}
PARQUET_ROWS: Final = 1_000
"""Rows of a Parquet file that are in memory at the same time, besides its row group."""


class BadHistory(ValueError):
    """The file as a whole cannot be sent; the message says what mends that."""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row: its place in the file, its bytes, and its fields by name, or why they cannot be read."""

    place: str
    raw: bytes
    fields: dict[str, Any] | BadMessage


def form_of(path: Path | None) -> Form:
    """Returns the form of a file by its name; lines of JSON where nothing says otherwise."""
    return "jsonl" if path is None else SUFFIXES.get(path.suffix.lower(), "jsonl")


def rows_of(file: BinaryIO, form: Form) -> Iterator[SourceRow]:
    """Yields the rows of an open file. Raises BadHistory where it is none of this form."""
    if form == "jsonl":
        return _json_lines(file)
    return _parquet_rows(file) if form == "parquet" else _table_rows(file, DELIMITERS[form])


def _json_lines(file: BinaryIO) -> Iterator[SourceRow]:
    for number in count(1):
        line = file.readline(MAX_EVENT_BYTES + 1)
        if not line:
            return
        raw = line.strip()
        if raw:
            yield SourceRow(f"line {number}", raw, _fields_of(raw))
        while len(line) > MAX_EVENT_BYTES and not line.endswith(b"\n"):  # the rest of a line that is too long
            line = file.readline(MAX_EVENT_BYTES + 1)


def _fields_of(raw: bytes) -> dict[str, Any] | BadMessage:
    try:
        return json_object(raw)
    except BadMessage as error:
        return error


def _table_rows(file: BinaryIO, delimiter: str) -> Iterator[SourceRow]:
    """Yields the rows of a table. A cell is a text; what is not UTF-8 in it has surrogates, and is refused."""
    csv.field_size_limit(MAX_EVENT_BYTES)
    text = TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    table = csv.reader(text, delimiter=delimiter, strict=True)
    header = next(table, [])
    if len(set(header)) < len(header) or not any(header):
        raise BadHistory(f"the first line names no columns, or one twice: {shown(delimiter.join(header))}")
    while True:
        place = f"line {table.line_num + 1}"
        try:
            cells = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            yield SourceRow(place, place.encode(), BadMessage("undecodable", f"no CSV: {error}"))
            continue
        if cells:
            yield SourceRow(place, json.dumps(cells).encode(), _cells_by_name(header, cells))


def _cells_by_name(header: Sequence[str], cells: Sequence[str]) -> dict[str, Any] | BadMessage:
    if len(cells) != len(header):
        return BadMessage("wrong_schema", f"{len(cells)} cells, the first line names {len(header)} columns")
    if _SURROGATE.search("".join(cells)):
        return BadMessage("undecodable", "it is not UTF-8")
    return {name: cell for name, cell in zip(header, cells, strict=True) if cell}


def _parquet_rows(file: BinaryIO) -> Iterator[SourceRow]:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError as error:
        raise BadHistory(f"Parquet needs pyarrow: pip install 'lifelong[parquet]' ({error})") from error
    try:
        batches = parquet.ParquetFile(file).iter_batches(batch_size=PARQUET_ROWS)
        numbers = count(1)
        for batch in batches:
            for cells in batch.to_pylist():
                raw = msgspec.json.encode(cells, enc_hook=str)
                yield SourceRow(f"row {next(numbers)}", raw, _present(raw))
    except (ArrowException, OSError) as error:
        raise BadHistory(f"it is no Parquet file that can be read: {error}") from error


def _present(raw: bytes) -> dict[str, Any] | BadMessage:
    """Returns the fields of a row of Parquet, as JSON has them, without those that are null."""
    fields = _fields_of(raw)
    return fields if isinstance(fields, BadMessage) else {k: v for k, v in fields.items() if v is not None}
