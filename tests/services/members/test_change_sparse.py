"""Tests `prune --sparse`: it resumes after a kill, and writes the weights that are served."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lifelong.compress.distillation import DistillOptions
from model.bert import load_encoder
from model.errors import WrongConfig
from model.member import read_member, read_stored
from model.quantized import QuantizedEncoder
from model.ragged import RaggedBatch
from model.strata_family import built_in
from services.members.adopt import quantize, stored_weights
from services.members.change import TeacherOptions, sparsify
from services.versions import ROOT
from tests.services.members.small import write_lines, write_small

OPTIONS = DistillOptions(steps=12, batch=2, rate=3e-3)

KILLED = """
import os, signal, sys
from pathlib import Path
from lifelong.compress.distillation import DistillOptions
from services.members.change import TeacherOptions, sparsify

def say(line):
    if line.startswith("step 9 "):
        os.kill(os.getpid(), signal.SIGKILL)

lesson = TeacherOptions(teacher=sys.argv[1], texts=(sys.argv[3],), every_s=0)
options = DistillOptions(steps=12, batch=2, rate=3e-3)
sparsify(sys.argv[1], Path(sys.argv[2]), 0.5, lesson, options, data=None, say=say)
"""


def silent(_: str) -> None:
    """Shows nothing."""


@pytest.fixture
def paths(tmp_path: Path) -> tuple[str, str]:
    """An encoder, and texts."""
    return write_small(tmp_path / "source"), write_lines(tmp_path / "lines")


def lesson(source: str, texts: str) -> TeacherOptions:
    return TeacherOptions(teacher=source, texts=(texts,), every_s=0)


def test_a_killed_pruning_goes_on_and_ends_with_the_same_bits(paths: tuple[str, str], tmp_path: Path) -> None:
    source, texts = paths
    whole = sparsify(source, tmp_path / "whole", 0.5, lesson(source, texts), OPTIONS, data=None, say=silent)
    words = [sys.executable, "-c", KILLED, source, str(tmp_path / "again"), texts]
    done = subprocess.run(words, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -signal.SIGKILL
    said: list[str] = []
    made = sparsify(source, tmp_path / "again", 0.5, lesson(source, texts), OPTIONS, data=None, say=said.append)
    assert said[0] == "resuming after step 8"
    assert said[-2].endswith("50% of the blocks zero")
    assert (made.cosine, made.bytes) == (whole.cosine, whole.bytes)
    (_, once), (_, again) = (stored_weights(path, silent) for path in (whole.path, made.path))
    assert all(tensor.to_blob() == once[name].to_blob() for name, tensor in again.items())
    assert not (tmp_path / "again.checkpoint").exists()


def test_the_folder_holds_sparse_weights_as_they_are_served(paths: tuple[str, str], tmp_path: Path) -> None:
    source, texts = paths
    made = sparsify(source, tmp_path / "out", 0.5, lesson(source, texts), OPTIONS, data=None, say=silent)
    member = read_member(tmp_path / "out")
    assert member is not None
    assert [(step["step"], step["sparse"]) for step in member.history] == [("prune", 0.5)]
    assert member.schemes["layers.0.up"] == member.schemes["layers.3.down"] == "bcsr16x4.w8"
    assert member.schemes["layers.0.qkv"] == "n8g64"
    config, tensors = stored_weights(made.path, silent)
    assert made.bytes == sum(len(tensor.to_blob()) for tensor in tensors.values())
    strata, tokenizer = load_encoder(made.path)
    served = QuantizedEncoder.from_tensors(built_in(config), tensors)
    z_BD = served.encode(RaggedBatch.of(tokenizer.encode_many(["play the song", "rain"])))
    with torch.no_grad():
        expected_BD = strata(RaggedBatch.of(tokenizer.encode_many(["play the song", "rain"])))
    assert torch.nn.functional.cosine_similarity(z_BD, expected_BD).min() > 0.999


def test_sparse_weights_stay_sparse_if_they_are_rounded_again(paths: tuple[str, str], tmp_path: Path) -> None:
    source, texts = paths
    made = sparsify(source, tmp_path / "out", 0.5, lesson(source, texts), OPTIONS, data=None, say=silent)
    quantize(made.path, tmp_path / "again", say=silent)
    again = read_member(tmp_path / "again")
    assert again is not None
    name = "layers.0.up"
    _, before = stored_weights(made.path, silent)
    assert read_stored(tmp_path / "again", again)[name].to_blob() == before[name].to_blob()
    with pytest.raises(WrongConfig, match="rounded to a grid already"):
        sparsify(made.path, tmp_path / "twice", 0.6, lesson(source, texts), OPTIONS, data=None, say=silent)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_that_is_none_is_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(WrongConfig, match="between 0 and 1"):
        sparsify("minilm-l6", tmp_path / "out", share, lesson("minilm-l6", "x"), OPTIONS, data=None, say=silent)
