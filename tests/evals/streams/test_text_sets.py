"""Labelled texts of several tasks."""

import gzip
from collections import Counter
from pathlib import Path

import pytest

from evals.streams.stream import StreamItem
from evals.streams.text_sets import TextSet, text_set
from learner.errors import DataError


def write(folder: Path, name: str, lines: str) -> None:
    (folder / "snips").mkdir(exist_ok=True)
    (folder / "snips" / f"{name}.tsv.gz").write_bytes(gzip.compress(lines.encode()))


def test_a_table_has_a_text_and_its_class_in_each_line(tmp_path: Path) -> None:
    write(tmp_path, "train", "play a song\tmusic\tmusic:play\nrain today?\tweather\n\n")
    write(tmp_path, "test", "sing\tmusic\n")
    found = text_set("snips", tmp_path)
    assert found.train == (StreamItem("play a song", "music"), StreamItem("rain today?", "weather"))
    assert found.test == (StreamItem("sing", "music"),)
    assert found.labels == ["music", "weather"]


@pytest.mark.parametrize("lines", ["no tab\n", "\tmusic\n", ""])
def test_a_wrong_line_is_named(tmp_path: Path, lines: str) -> None:
    write(tmp_path, "train", lines)
    with pytest.raises(DataError, match=r"train\.tsv\.gz:1"):
        text_set("snips", tmp_path)


def test_a_missing_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"snips"):
        text_set("snips", tmp_path)
    with pytest.raises(DataError, match="LIFELONG_DATA"):
        text_set("snips", None)


def test_the_stages_of_a_stream_are_joined() -> None:
    support = text_set("support", None)
    assert len(support.train) > len(support.test) > 0
    assert {item.label for item in support.test} <= set(support.labels)


def test_a_sample_keeps_every_class_and_depends_on_its_seed() -> None:
    items = [StreamItem(f"text {place}", "rare" if place == 7 else f"class {place % 3}") for place in range(60)]
    whole = TextSet("x", items, items[:5])
    cut = whole.cut(train=10, test=3, seed=1)
    counts = Counter(item.label for item in cut.train)
    assert counts == {"class 0": 3, "class 1": 3, "class 2": 3, "rare": 1}
    assert len(cut.test) == 3
    assert cut == whole.cut(train=10, test=3, seed=1)
    assert cut != whole.cut(train=10, test=3, seed=2)
    assert len(whole.cut(train=1_000, test=1_000, seed=0).train) == 60


def write_clauses(folder: Path, clauses: list[str], *, num_contracts: int) -> None:
    """Writes the clauses, whose first word is their class, of contracts in turn."""
    rows = [f"{text}\t{text.split()[0]}\tc{number % num_contracts}" for number, text in enumerate(clauses)]
    (folder / "cuad").mkdir()
    (folder / "cuad" / "clauses.tsv.gz").write_bytes(gzip.compress("\n".join(rows).encode()))


def test_no_contract_has_clauses_in_both_parts(tmp_path: Path) -> None:
    clauses = [f"{kind} {number}" for kind in ("term", "audit") for number in range(10)]
    write_clauses(tmp_path, clauses, num_contracts=10)
    found = text_set("cuad", tmp_path)
    assert [item.text for item in found.test] == ["term 0", "term 5", "audit 0", "audit 5"]
    assert len(found.train) == 16 and found.labels == ["audit", "term"]


def test_a_clause_without_its_contract_is_named(tmp_path: Path) -> None:
    (tmp_path / "cuad").mkdir()
    (tmp_path / "cuad" / "clauses.tsv.gz").write_bytes(gzip.compress(b"a clause\ta kind"))
    with pytest.raises(
        DataError, match=r"clauses.tsv.gz:1: expected a text, a class and a contract, separated by tabs"
    ):
        text_set("cuad", tmp_path)
