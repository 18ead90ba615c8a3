"""Tests that a file of published vectors is read, or refused with the number of the line."""

import json
from pathlib import Path

import pytest

from services.encoder_check import MAX_VECTORS, BadVectors, read_vectors


def written(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def test_vectors_are_read_in_order(tmp_path: Path) -> None:
    lines = [{"text": f"text {index}", "vector": [index, 0.5]} for index in range(3)]
    found = read_vectors(written(tmp_path / "v.jsonl", *lines), width=2)
    assert [(each.text, each.vector) for each in found] == [(f"text {index}", [index, 0.5]) for index in range(3)]


def test_no_more_are_read_than_compared(tmp_path: Path) -> None:
    lines = [{"text": "t", "vector": [1.0]}] * (MAX_VECTORS + 5)
    assert len(read_vectors(written(tmp_path / "v.jsonl", *lines), width=1)) == MAX_VECTORS


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"text": "t"}, r"line 2: Object missing required field `vector`"),
        ({"text": "t", "vector": [1.0, 2.0, 3.0]}, r"line 2: 3 numbers; a vector has 2"),
        ({"text": "t", "vector": "x"}, r"line 2: Expected `array`"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: object, message: str) -> None:
    path = written(tmp_path / "v.jsonl", {"text": "t", "vector": [1.0, 2.0]}, line)
    with pytest.raises(BadVectors, match=message):
        read_vectors(path, width=2)


def test_no_vectors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadVectors, match="has no vectors"):
        read_vectors(written(tmp_path / "v.jsonl"), width=2)
    with pytest.raises(BadVectors, match="No such file"):
        read_vectors(tmp_path / "none.jsonl", width=2)
