"""Reads the rows of a file of history, and makes a label, with its text, of each; or says why not, and what mends that.

    FILE --form_of its name--> SourceRow(place, raw, fields)        lines of JSON, CSV with a header, or Parquet
    fields --templates of --map--> text, features, label, id, source, key, time_ms --> Feedback, or BadMessage

A row that cannot be read never ends the file: the next one is read all the same. Memory is bounded by MAX_EVENT_BYTES a
row, and by the row groups of Parquet.

Where events have sets of labels, `labels` is a list of names, or a text of names between commas. A map `features.NAME`
makes the number or the category NAME; a cell of a table that reads as a number is one.
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

from wire.envelope import record_of
from wire.errors import BadMessage
from wire.inputs import Features, Part, content_of, fields_of, problem_of_content
from wire.kinds import KINDS, LABEL_FIELDS, field_with
from wire.label_set import LabelSet, check_label, did_you_mean
from wire.mapping import LABEL_SETTINGS, Template, features_of, label_in
from wire.message import json_object, shown
from wire.records import MAX_EVENT_BYTES, MAX_TEXT_CHARS, Feedback
from wire.tasks import DEFAULT

Form: TypeAlias = Literal["jsonl", "csv", "tsv", "parquet"]

SUFFIXES: Final[Mapping[str, Form]] = {".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".pq": "parquet"}
_SURROGATE: Final = re.compile("[\udc80-\udcff]")
"""What stands for a byte that is not UTF-8."""

DELIMITERS: Final = {"csv": ",", "tsv": "\t"}
PARQUET_ROWS: Final = 1_000
"""Rows of a Parquet file that are in memory at the same time, besides its row group."""

FIXES: Final = {
    "undecodable": "correct the row: a JSON object, or the cells that the first line names, in UTF-8",
    "oversized": "shorten it",
    "wrong_schema": "correct the field, or say which one it is: --map text='{body}' --map label='{queue}'",
    "retired": "lifelong labels add, or leave the row out",
    "not_listed": "correct the label, or lifelong labels add",
    "new_label": "lifelong labels add",
    "wrong_kind": "say which field has it: --map label='{queue}', --map labels='{tags}' or --map value='{points}'",
}
"""What mends the refusal of a row, by its reason."""

FEATURE: Final = "features."
"""How the names of maps begin that make features."""


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
"""The fields that a map makes, besides features, each by a map of its own. No map makes parts."""


@dataclass(frozen=True, slots=True)
class RowMaps:
    """The templates of fields of ours, and those of features, by name."""

    fields: Mapping[str, Template] = dataclass_field(default_factory=dict)
    features: Mapping[str, Template] = dataclass_field(default_factory=dict)

    @classmethod
    def of(cls, maps: Mapping[str, str]) -> "RowMaps":
        """Returns those of `--map`. Raises BadHistory where one makes no field, is no template, or makes a label that
        another one makes, too."""
        for name in maps:
            if name not in MAPPED and not name.startswith(FEATURE):
                raise BadHistory(f"--map {name}: there is no such field{_meant(name)}")
        if len(both := [f"--map {name}" for name in LABEL_SETTINGS if name in maps]) > 1:
            raise BadHistory(f"{' and '.join(both)}: a row is one label, so only one of them makes it")
        try:
            templates = {name: Template.of(text, f"--map {name}") for name, text in maps.items()}
        except ValueError as error:
            raise BadHistory(str(error)) from error
        features = {name.removeprefix(FEATURE): each for name, each in templates.items() if name.startswith(FEATURE)}
        return cls({name: each for name, each in templates.items() if name in MAPPED}, features)


class RowLabeller:
    """Makes labels of rows, of one `task`. Where there are `maps`, or rows are those of a table, other fields than ours
    are ignored."""

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
            raise BadMessage("wrong_schema", f"there is no field {shown(min(unknown))}{_did_you_mean(min(unknown))}")
        own = {name: fields[name] for name in OURS if name in fields}
        own |= {name: _mapped(name, template, fields) for name, template in self._maps.fields.items()}
        if self._maps.features:
            values = features_of(self._maps.features, fields)
            own["features"] = {name: self._typed(value) for name, value in values.items()}
        row = _row_of(own, fields)
        if problem := problem_of_content(**fields_of(row)):
            raise BadMessage("wrong_schema", problem)
        feedback = record_of(Feedback, self._fields(row))
        check_label(feedback.said, self._labels, max_chars=self._max_label_chars)
        return feedback

    def _fields(self, row: HistoryRow) -> dict[str, Any]:
        said = {**fields_of(row), "text": row.text[:MAX_TEXT_CHARS]}
        return {
            "event_id": row.id or blake2b(content_of(**said).encode(), digest_size=16).hexdigest(),
            "label": row.label,
            "labels": _listed(row.labels),
            "value": row.value,
            "target": self._target(row.target),
            "key": row.key,
            "source": self._source,
            "time_ms": row.time_ms,
            "event_source": row.source,
            **said,
            "task": self._task,
        }

    def _target(self, value: Any) -> Any:
        """Returns what a row says for a label of a kind without a field of its own."""
        if value is None:
            return None
        kind = self._labels.kind
        said = kind.from_text(value) if isinstance(value, str) else kind.from_value(value)
        return field_with(kind, said).get("target")

    def _typed(self, value: float | str) -> float | str:
        """Returns a cell of a table as a number where it reads as one: tables of text have no others."""
        if not self._is_table or not isinstance(value, str):
            return value
        try:
            return float(value)
        except ValueError:
            return value


def _mapped(name: str, template: Template, fields: Mapping[str, Any]) -> Any:
    """Returns what a map makes for a field of ours; a set of labels may be one text, with commas."""
    if name in ("label", "value"):
        return label_in(name, template, fields)
    return template.value(fields) if name in ("labels", "target") else template.fill(fields)


def _row_of(own: Mapping[str, Any], fields: Mapping[str, Any]) -> HistoryRow:
    label = next((name for name in LABEL_FIELDS if name in own), "label")
    for name in (label,) if "features" in own else ("text", label):
        if name not in own:
            close = get_close_matches(name, fields, n=1)
            meant = f"; did you mean --map {name}='{{{close[0]}}}'?" if close else ""
            raise BadMessage("wrong_schema", f"`{name}` is missing: there are {shown(', '.join(fields))}{meant}")
    try:
        return msgspec.convert(own, HistoryRow, strict=False)
    except msgspec.ValidationError as error:
        raise BadMessage("wrong_schema", str(error)) from error


def _listed(labels: Sequence[str] | str | None) -> tuple[str, ...] | None:
    """Returns a set of labels as a list.

    >>> _listed("refund, urgent"), _listed(""), _listed(None)
    (('refund', 'urgent'), (), None)
    """
    if not isinstance(labels, str):
        return None if labels is None else tuple(labels)
    names: tuple[str, ...] = KINDS.of_field("labels").from_text(labels)
    return names


def _did_you_mean(name: str) -> str:
    return did_you_mean(name, OURS) or f"; there are {', '.join(OURS)}"


def _meant(name: str) -> str:
    """Says which map may be meant, or which there are."""
    first, dot, rest = name.partition(".")
    if dot and did_you_mean(first, ["features"]):
        return f"; did you mean '{FEATURE}{rest}'?"
    return did_you_mean(name, MAPPED) or f"; there are {', '.join(MAPPED)}, and features.NAME"
