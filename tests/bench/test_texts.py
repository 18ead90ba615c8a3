"""Checks the texts that are measured on."""

from pathlib import Path

import pytest

from bench.row import Skip
from bench.texts import clinc150, data_folder, few_of_each, some_texts
from evals.streams.data import load


def test_without_data_it_is_skipped_and_said_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFELONG_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    with pytest.raises(Skip, match=r"data_full.json is missing; git clone"):
        clinc150()


def test_texts_are_different_and_always_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFELONG_DATA", str(tmp_path))  # so they are those of the carried stream
    texts = some_texts(64)
    assert len(set(texts)) == 64
    assert texts == some_texts(64)


def test_a_primer_has_a_few_items_of_every_label() -> None:
    stream = load("support", None)
    labels = [item.label for item in few_of_each(stream, 3).train]
    assert len(set(labels)) == stream.num_labels
    assert len(labels) == 3 * stream.num_labels
