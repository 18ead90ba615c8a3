"""Checks the texts that benchmarks measure on."""

from pathlib import Path

import pytest

from bench.harness.texts import clinc150, data_folder, first_items_per_class, joined_pairs, some_texts
from evals.results.row import Skip
from evals.streams.data import load


def test_without_data_skip_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFELONG_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    with pytest.raises(Skip, match=r"data_full.json is missing; git clone"):
        clinc150()


def test_texts_are_different_and_always_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without CLINC150 the texts come from the stream in the package.
    monkeypatch.setenv("LIFELONG_DATA", str(tmp_path))
    texts = some_texts(64)
    assert len(set(texts)) == 64
    assert texts == some_texts(64)


def test_a_primer_has_a_few_items_of_every_label() -> None:
    stream = load("support", None)
    labels = [item.label for item in first_items_per_class(stream, 3).train]
    assert len(set(labels)) == stream.num_labels
    assert len(labels) == 3 * stream.num_labels


def test_pairs_of_classes_are_classes_with_texts_of_both() -> None:
    stream = load("support", None)
    items = joined_pairs(stream, 10, per_class=4)
    by_label: dict[str, set[str]] = {}
    for item in items:
        by_label.setdefault(item.label, set()).add(item.text)
    assert len(by_label) == 10 and len({item.text for item in items}) == len(items)
    train: dict[str, str] = {}
    for stage in stream.stages:
        train |= {item.text: item.label for item in stage.train}
    for label, texts in by_label.items():
        one, other = label.split(" and ")
        assert 1 < len(texts) <= 4
        for text in texts:
            begin, _, _ = text.partition(", ")
            assert train.get(begin, one) == one
            assert any(text.endswith(f", {each}") for each in train if train[each] == other)
    assert items == joined_pairs(stream, 10, per_class=4)
