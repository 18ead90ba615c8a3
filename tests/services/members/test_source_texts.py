"""Tests how the texts and tasks of a command are read."""

from pathlib import Path

import pytest

from learner.errors import DataError
from model.tokenizer import TextTokenizer
from services.members.source import labelled, unlabelled
from tests.services.members.small import LINES, tokenizer_json, write_lines


@pytest.fixture
def tokenizer() -> TextTokenizer:
    return TextTokenizer(tokenizer_json())


def test_each_text_comes_once(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    lines = write_lines(tmp_path / "lines")
    (tmp_path / "more.txt").write_text("rain today\n\nloud music\n")
    token_ids = unlabelled([lines, str(tmp_path / "more.txt")], None, tokenizer)
    assert len(token_ids) == len(LINES) + 1
    assert token_ids[-1] == [1, *tokenizer.encode_many(["loud music"])[0][1:-1], 2]


def test_test_texts_are_spared(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    lines = Path(write_lines(tmp_path / "lines"))
    (lines / "test.jsonl").write_text(LINES[2] + "\n")
    all_ids = unlabelled([str(lines)], None, tokenizer)
    spared = unlabelled([str(lines)], None, tokenizer, spares_tests=True)
    assert spared == [ids for ids in all_ids if ids != tokenizer.encode_many(["rain today"])[0]]
    assert len(spared) == len(LINES) - 1


def test_a_task_has_rows_for_its_classes(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    (task,) = labelled([write_lines(tmp_path / "lines")], None, tokenizer, max_texts=3, seed=0)
    assert len(task.token_ids) == len(task.labels_B) == 3
    assert set(task.labels_B.tolist()) == {0, 1}


@pytest.mark.parametrize("names", [[], ["absent.txt"], ["absent"]])
def test_no_texts_are_an_error_that_says_so(names: list[str], tokenizer: TextTokenizer) -> None:
    with pytest.raises(DataError):
        unlabelled(names, None, tokenizer)


def test_no_task_is_an_error(tokenizer: TextTokenizer) -> None:
    with pytest.raises(DataError, match="no task"):
        labelled([], None, tokenizer, max_texts=1, seed=0)
