"""Digits as pictures, sounds and sentences."""

import tarfile
from pathlib import Path

import pytest
import torch

from evals.streams.data import DIGITS, load
from evals.streams.digits import WORDS, digits_data, recordings, sentences
from learner.errors import DataError
from tests.evals.streams.fsdd_files import small_fsdd
from tests.evals.streams.mnist_files import small_mnist
from wire.inputs import decode_content, find_problem


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return small_fsdd(small_mnist(tmp_path))


def test_the_training_data_has_no_test_recording(data: Path) -> None:
    found = digits_data(data)
    assert found.parts["image"].shape == (400, 28, 28) and int(found.parts["image"].max()) <= 127
    assert found.parts["audio"].shape == (40, 32, 40)
    assert torch.bincount(found.labels["audio"]).tolist() == [4] * 10
    assert len(found.texts) == len(found.labels["text"]) == len(sentences())
    without = digits_data(data, left_out="ann")
    assert len(without.parts["audio"]) == 20 and without.digest != found.digest


def test_the_stream_has_pictures_and_sounds_of_two_digits_a_stage(data: Path) -> None:
    stream = load(DIGITS, data, seed=1)
    assert [stage.name for stage in stream.stages] == [f"{WORDS[n]} and {WORDS[n + 1]}" for n in range(0, 10, 2)]
    assert {item.label for item in stream.train_items} == {*WORDS}
    assert {(item.kind) for item in stream.test_items} == {"picture", "sound"}
    assert len(stream.train_items) == 400 + 40 and len(stream.test_items) == 100 + 100
    for item in (*stream.train_items, *stream.test_items):
        fields = decode_content(item.text)
        assert not find_problem(fields["features"], fields["parts"])
    assert not {item.text for item in stream.train_items} & {item.text for item in stream.test_items}


def test_missing_data_says_where_to_get_it(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        recordings.cache_clear()
        with pytest.raises(DataError, match="Jakobovski/free-spoken-digit-dataset"):
            recordings(folder)
    (tmp_path / "fsdd").mkdir()
    (tmp_path / "fsdd" / "recordings.tar.gz").write_bytes(b"broken")
    with pytest.raises(DataError, match="free-spoken-digit-dataset"):
        recordings(tmp_path)
    with tarfile.open(tmp_path / "fsdd" / "recordings.tar.gz", "w:gz"):
        pass
    with pytest.raises(DataError, match="has 0 recordings, and not of all digits"):
        recordings(tmp_path)
