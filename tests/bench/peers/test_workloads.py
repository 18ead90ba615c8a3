"""Checks the workloads of the encoders."""

from pathlib import Path

import pytest

from bench.harness.texts import some_texts
from bench.peers.workloads import BY_NAME, NATURAL, WORKLOADS, Workload, calibration_texts, fill_to_length
from model.tokenizer import TextTokenizer

TOKENIZER = TextTokenizer.from_encoder("minilm-l6")


@pytest.fixture(autouse=True)
def carried_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFELONG_DATA", str(tmp_path))


@pytest.mark.parametrize("workload", BY_NAME.values(), ids=lambda workload: workload.name)
def test_a_batch_has_the_size_of_its_name_and_is_always_the_same(workload: Workload) -> None:
    batch = workload.batch(TOKENIZER)
    assert len(batch) == workload.num_texts
    assert workload.length is None or {len(ids) for ids in batch} == {workload.length}
    assert batch == workload.batch(TOKENIZER)
    assert len(workload.sample(TOKENIZER)) >= len(batch)


def test_natural_texts_differ_in_length() -> None:
    assert NATURAL in WORKLOADS
    assert len({len(ids) for ids in NATURAL.batch(TOKENIZER)}) > 5


def test_texts_are_filled_from_one_after_the_other() -> None:
    sources = [[1, 7, 8, 2], [1, 9, 2]]
    assert fill_to_length(sources, 2, 5) == [[1, 7, 8, 9, 2], [1, 7, 8, 9, 2]]
    assert fill_to_length(sources, 2, 3) == [[1, 7, 2], [1, 9, 2]]
    assert fill_to_length(sources, 1, 1) == [[1]]


def test_nothing_that_is_timed_calibrates() -> None:
    texts = calibration_texts(100)
    assert len(set(texts)) == 100
    assert not set(texts) & set(some_texts(64))
