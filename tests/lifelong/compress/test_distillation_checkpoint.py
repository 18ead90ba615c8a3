"""The checkpoint file from which a killed distillation resumes."""

import dataclasses
from pathlib import Path

import pytest
import torch

from learner.errors import StateRefused
from lifelong.compress.distillation import Distiller, key_of, resume, write_checkpoint
from tests.lifelong.compress.members import TOKEN_IDS, dense_strata
from tests.lifelong.compress.test_distillation import OPTIONS, distillation, student


def beginning() -> Distiller:
    return distillation(student(), dense_strata())


def key(rate: float = OPTIONS.rate) -> str:
    return key_of(student(), dense_strata(), TOKEN_IDS, dataclasses.replace(OPTIONS, rate=rate))


def test_without_a_file_the_distillation_starts_from_the_beginning(tmp_path: Path) -> None:
    assert not resume(tmp_path / "absent", beginning(), key())


def test_a_distillation_resumes_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    killed = beginning()
    for _ in range(3):
        killed.step()
        write_checkpoint(path, killed, key())
    again = beginning()
    assert resume(path, again, key())
    assert again.num_done == 3
    assert again.step() == killed.step()
    for name, value in killed.tensors().items():
        assert torch.equal(value, again.tensors()[name]), name


def test_the_file_of_another_run_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint", beginning(), key(rate=1e-4))
    with pytest.raises(StateRefused, match="other options or data"):
        resume(tmp_path / "checkpoint", beginning(), key())


@pytest.mark.parametrize("num_bytes", [0, 7, 1_000, -1])
def test_a_torn_file_is_refused(tmp_path: Path, num_bytes: int) -> None:
    path = tmp_path / "checkpoint"
    write_checkpoint(path, beginning(), key())
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(StateRefused, match="not a complete checkpoint"):
        resume(path, beginning(), key())
