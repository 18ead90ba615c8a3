"""Tests the rows of history files: each format gives the same fields, and a bad row does not end the file."""

import io
from pathlib import Path

import msgspec
import pyarrow
import pytest
from pyarrow import parquet

from services.history.labeller import BadHistory, Form, SourceRow, detect_format, read_rows
from wire.errors import BadMessage
from wire.records import MAX_EVENT_BYTES

ROWS = [{"text": "where is my parcel", "label": "delivery"}, {"text": "I want\nmy money", "label": "refund", "id": "7"}]
JSONL = b"\n\n".join(msgspec.json.encode(row) for row in ROWS)
CSV = b'\xef\xbb\xbftext,label,id\r\nwhere is my parcel,delivery,\r\n"I want\nmy money",refund,7\r\n'


def read(data: bytes, form: Form) -> list[SourceRow]:
    return list(read_rows(io.BytesIO(data), form))


def reasons(rows: list[SourceRow]) -> list[str]:
    return [row.fields.reason if isinstance(row.fields, BadMessage) else "" for row in rows]


@pytest.mark.parametrize(
    ("data", "form", "places"),
    [
        (JSONL, "jsonl", ["line 1", "line 3"]),
        (CSV, "csv", ["line 2", "line 3"]),
        (CSV.replace(b",", b"\t"), "tsv", ["line 2", "line 3"]),
    ],
)
def test_rows_have_the_fields_and_the_places_of_their_file(data: bytes, form: Form, places: list[str]) -> None:
    rows = read(data, form)
    assert [row.fields for row in rows] == ROWS
    assert [row.place for row in rows] == places


def test_the_rows_of_parquet_have_the_fields_that_json_would(tmp_path: Path) -> None:
    path = tmp_path / "history.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([{"id": None, **row} for row in ROWS]), path)
    rows = read(path.read_bytes(), "parquet")
    assert [(row.place, row.fields) for row in rows] == [("row 1", ROWS[0]), ("row 2", ROWS[1])]
    with pytest.raises(BadHistory, match="not a readable Parquet file"):
        read(b"text,label", "parquet")


def test_a_line_that_cannot_be_read_does_not_end_the_file() -> None:
    long = b'{"text": "' + MAX_EVENT_BYTES * b"x" + b'"}\n'
    rows = read(b"{\n[1]\n\xff\n" + long + JSONL, "jsonl")
    assert reasons(rows) == ["undecodable", "wrong_schema", "undecodable", "oversized", "", ""]
    assert [row.place for row in rows][3:] == ["line 4", "line 5", "line 7"]


def test_a_row_of_a_table_that_cannot_be_read_does_not_end_it() -> None:
    bad = b'text,label\na\n"b"c,d\n\xff,e\nwhere,delivery\n'
    rows = read(bad, "csv")
    assert reasons(rows) == ["wrong_schema", "undecodable", "undecodable", ""]
    assert [row.place for row in rows] == ["line 2", "line 3", "line 4", "line 5"]


@pytest.mark.parametrize("header", [b"", b"text,text\n", b",,\n"])
def test_a_table_without_a_header_is_refused_as_a_whole(header: bytes) -> None:
    with pytest.raises(BadHistory, match="names no columns, or a column twice"):
        read(header, "csv")


def test_the_name_of_a_file_says_its_form() -> None:
    forms = [detect_format(Path(name)) for name in ("a.CSV", "a.tsv", "a.parquet", "a.jsonl", "a")]
    assert forms == ["csv", "tsv", "parquet", "jsonl", "jsonl"]
    assert detect_format(None) == "jsonl"
