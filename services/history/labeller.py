"""Reads the rows of a history file, and turns each into a label with its text, or refuses it with a reason and a fix.

    FILE --detect_format its name--> SourceRow(place, raw, fields)        lines of JSON, CSV with a header, or Parquet
    fields --templates of --map--> text, features, label, id, source, key, time_ms --> Feedback, or BadMessage

A row that cannot be read is refused, and reading goes on with the next row. Memory is bounded by MAX_EVENT_BYTES a row,
and by the row groups of Parquet.

If events have sets of labels, `labels` is a list of names, or a text with names between commas. A map `features.NAME`
gives the number or the category NAME. A table's cell that can be parsed as a number is a number.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from difflib import get_close_matches
from hashlib import blake2b
from io import TextIOWrapper
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeAlias

import msgspec

from wire.envelope import build_record
from wire.errors import BadMessage
from wire.inputs import Features, Part, encode_content, fields_of, problem_of_content
from wire.kinds import KINDS, LABEL_FIELDS, field_with
from wire.label_set import LabelSet, check_label, did_you_mean
from wire.mapping import LABEL_SETTINGS, Template, label_in, map_features
from wire.message import json_object, quote_text
from wire.records import MAX_EVENT_BYTES, MAX_TEXT_CHARS, Feedback
from wire.tasks import DEFAULT

Form: TypeAlias = Literal["jsonl", "csv", "tsv", "parquet"]

SUFFIXES: Final[Mapping[str, Form]] = {".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".pq": "parquet"}
_SURROGATE: Final = re.compile("[\udc80-\udcff]")
"""Matches a surrogate, by which Python replaces a byte that is not UTF-8."""

DELIMITERS: Final = {"csv": ",", "tsv": "\t"}
PARQUET_ROWS: Final = 1_000
"""Number of rows of a Parquet file that are converted at a time; the whole row group is in memory, too."""

FIXES: Final = {
    "undecodable": "correct the row: a JSON object, or the cells that the first line names, in UTF-8",
    "oversized": "shorten it",
    "wrong_schema": "correct the field, or name it in a map: --map text='{body}' --map label='{queue}'",
    "retired": "lifelong labels add, or leave the row out",
    "not_listed": "correct the label, or lifelong labels add",
    "new_label": "lifelong labels add",
    "wrong_kind": "name its field in a map: --map label='{queue}', --map labels='{tags}' or --map value='{points}'",
}
"""Maps the reason of a refused row to the fix."""

FEATURE: Final = "features."
"""Prefix of the names of maps that make features."""


class BadHistory(ValueError):
    """The file as a whole cannot be sent. The message names the fix."""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row: its place in the file, its bytes, and its fields by name, or the error if they cannot be read."""

    place: str
    raw: bytes
    fields: dict[str, Any] | BadMessage


def detect_format(path: Path | None) -> Form:
    """Returns the format of a file by its name, or of standard input (None); by default, lines of JSON."""
    return "jsonl" if path is None else SUFFIXES.get(path.suffix.lower(), "jsonl")


def read_rows(file: BinaryIO, form: Form) -> Iterator[SourceRow]:
    """Yields the rows of an open file. Raises BadHistory if the file has not this format."""
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
            yield SourceRow(f"line {number}", raw, _parse_fields(raw))
        # Skip the rest of a line that is too long.
        while len(line) > MAX_EVENT_BYTES and not line.endswith(b"\n"):
            line = file.readline(MAX_EVENT_BYTES + 1)


def _parse_fields(raw: bytes) -> dict[str, Any] | BadMessage:
    try:
        return json_object(raw)
    except BadMessage as error:
        return error


def _table_rows(file: BinaryIO, delimiter: str) -> Iterator[SourceRow]:
    """Yields the rows of a table. A cell is a text. Bytes that are not UTF-8 become surrogates, which are refused."""
    csv.field_size_limit(MAX_EVENT_BYTES)
    text = TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    table = csv.reader(text, delimiter=delimiter, strict=True)
    header = next(table, [])
    if len(set(header)) < len(header) or not any(header):
        raise BadHistory(f"the first line names no columns, or a column twice: {quote_text(delimiter.join(header))}")
    while True:
        place = f"line {table.line_num + 1}"
        try:
            cells = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            yield SourceRow(place, place.encode(), BadMessage("undecodable", f"not CSV: {error}"))
            continue
        if cells:
            yield SourceRow(place, json.dumps(cells).encode(), _cells_by_name(header, cells))


def _cells_by_name(header: Sequence[str], cells: Sequence[str]) -> dict[str, Any] | BadMessage:
    if len(cells) != len(header):
        return BadMessage("wrong_schema", f"{len(cells)} cells, but the first line names {len(header)} columns")
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
                yield SourceRow(f"row {next(numbers)}", raw, _without_nulls(raw))
    except (ArrowException, OSError) as error:
        raise BadHistory(f"it is not a readable Parquet file: {error}") from error


def _without_nulls(raw: bytes) -> dict[str, Any] | BadMessage:
    """Returns the fields of a Parquet row from its JSON, without the fields that are null."""
    fields = _parse_fields(raw)
    if isinstance(fields, BadMessage):
        return fields
    return {name: value for name, value in fields.items() if value is not None}


class HistoryRow(msgspec.Struct, kw_only=True):
    """The fields of a row, after the maps."""

    label: str = ""
    labels: tuple[str, ...] | str | None = None
    value: float | None = None
    target: dict[str, Any] | list[Any] | str | None = None
    text: str = ""
    features: Features = {}
    parts: tuple[Part, ...] = ()
    id: str = ""
    source: str = "history"
    key: str = ""
    time_ms: int = 0


OURS: Final = [field.name for field in msgspec.structs.fields(HistoryRow)]

MAPPED: Final = [name for name in OURS if name not in ("features", "parts")]
"""The fields that `--map NAME` can fill, in addition to `--map features.NAME`. No map fills `parts`."""


@dataclass(frozen=True, slots=True)
class RowMaps:
    """The templates of our fields, and the templates of features, by name."""

    fields: Mapping[str, Template] = dataclass_field(default_factory=dict)
    features: Mapping[str, Template] = dataclass_field(default_factory=dict)

    @classmethod
    def of(cls, maps: Mapping[str, str]) -> "RowMaps":
        """Returns the templates of the options `--map NAME=TEMPLATE`. Raises BadHistory if

        - NAME is not a field,
        - TEMPLATE is not a template, or
        - two maps make the label.
        """
        for name in maps:
            if name not in MAPPED and not name.startswith(FEATURE):
                raise BadHistory(f"--map {name}: there is no such field{_suggest_map(name)}")
        if len(both := [f"--map {name}" for name in LABEL_SETTINGS if name in maps]) > 1:
            raise BadHistory(f"{' and '.join(both)}: a row is one label. Keep only one of these maps")
        try:
            templates = {name: Template.of(text, f"--map {name}") for name, text in maps.items()}
        except ValueError as error:
            raise BadHistory(str(error)) from error
        features = {name.removeprefix(FEATURE): each for name, each in templates.items() if name.startswith(FEATURE)}
        return cls({name: each for name, each in templates.items() if name in MAPPED}, features)


class RowLabeller:
    """Turns rows into labels of one `task`.

    A field that we do not know is an error in a row of JSON without `maps`. With `maps`, or in a table, it is ignored.
    """

    def __init__(
        self,
        maps: RowMaps,
        labels: LabelSet,
        *,
        source: str,
        max_label_chars: int,
        is_table: bool,
        task: str = DEFAULT,
    ) -> None:
        self._source = source
        self._task = task
        self._labels = labels
        self._max_label_chars = max_label_chars
        self._is_table = is_table
        self._is_strict = not (maps.fields or maps.features or is_table)
        self._maps = maps

    def feedback(self, fields: Mapping[str, Any]) -> Feedback:
        """Returns the label of a row. Raises BadMessage with a reason of FIXES."""
        if self._is_strict and (unknown := fields.keys() - set(OURS)):
            raise BadMessage(
                "wrong_schema", f"there is no field {quote_text(min(unknown))}{_suggest_field(min(unknown))}"
            )
        own = {name: fields[name] for name in OURS if name in fields}
        own |= {name: _fill_field(name, template, fields) for name, template in self._maps.fields.items()}
        if self._maps.features:
            values = map_features(self._maps.features, fields)
            own["features"] = {name: self._parse_number(value) for name, value in values.items()}
        row = _build_row(own, fields)
        if problem := problem_of_content(**fields_of(row)):
            raise BadMessage("wrong_schema", problem)
        feedback = build_record(Feedback, self._fields(row))
        check_label(feedback.label_string, self._labels, max_chars=self._max_label_chars)
        return feedback

    def _fields(self, row: HistoryRow) -> dict[str, Any]:
        content = {**fields_of(row), "text": row.text[:MAX_TEXT_CHARS]}
        return {
            "event_id": row.id or blake2b(encode_content(**content).encode(), digest_size=16).hexdigest(),
            "label": row.label,
            "labels": _parse_label_set(row.labels),
            "value": row.value,
            "target": self._target(row.target),
            "key": row.key,
            "source": self._source,
            "time_ms": row.time_ms,
            "event_source": row.source,
            **content,
            "task": self._task,
        }

    def _target(self, value: Any) -> Any:
        """Returns the field `target` of a label, for kinds of labels that have no other field."""
        if value is None:
            return None
        kind = self._labels.kind
        label = kind.from_text(value) if isinstance(value, str) else kind.from_value(value)
        return field_with(kind, label).get("target")

    def _parse_number(self, value: float | str) -> float | str:
        """Returns a table's cell as a number if it can be parsed as one, since tables of text have no numbers."""
        if not self._is_table or not isinstance(value, str):
            return value
        try:
            return float(value)
        except ValueError:
            return value


def _fill_field(name: str, template: Template, fields: Mapping[str, Any]) -> Any:
    """Returns the value that a map gives to one of our fields. A set of labels may be one text with commas."""
    if name in ("label", "value"):
        return label_in(name, template, fields)
    return template.value(fields) if name in ("labels", "target") else template.fill(fields)


def _build_row(own: Mapping[str, Any], fields: Mapping[str, Any]) -> HistoryRow:
    label = next((name for name in LABEL_FIELDS if name in own), "label")
    for name in (label,) if "features" in own else ("text", label):
        if name not in own:
            close = get_close_matches(name, fields, n=1)
            meant = f"; did you mean --map {name}='{{{close[0]}}}'?" if close else ""
            raise BadMessage("wrong_schema", f"`{name}` is missing: there are {quote_text(', '.join(fields))}{meant}")
    try:
        return msgspec.convert(own, HistoryRow, strict=False)
    except msgspec.ValidationError as error:
        raise BadMessage("wrong_schema", str(error)) from error


def _parse_label_set(labels: Sequence[str] | str | None) -> tuple[str, ...] | None:
    """Returns a set of labels as a tuple of names; None if the row has none.

    >>> _parse_label_set("refund, urgent"), _parse_label_set(""), _parse_label_set(None)
    (('refund', 'urgent'), (), None)
    """
    if not isinstance(labels, str):
        return None if labels is None else tuple(labels)
    names: tuple[str, ...] = KINDS.of_field("labels").from_text(labels)
    return names


def _suggest_field(name: str) -> str:
    return did_you_mean(name, OURS) or f"; there are {', '.join(OURS)}"


def _suggest_map(name: str) -> str:
    """Returns a suggestion of the intended map, or the list of possible maps, to append to a message."""
    first, dot, rest = name.partition(".")
    if dot and did_you_mean(first, ["features"]):
        return f"; did you mean '{FEATURE}{rest}'?"
    return did_you_mean(name, MAPPED) or f"; there are {', '.join(MAPPED)}, and features.NAME"
