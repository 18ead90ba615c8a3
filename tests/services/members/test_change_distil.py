"""Tests the command for distillation, which resumes after a kill."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from learner.errors import StateRefused
from lifelong.compress.distillation import DistillOptions, Losses
from model.bert import load_encoder
from model.member import read_member, read_stored
from model.qtensor import QTensor
from services.members.adopt import quantize
from services.members.change import ShareOptions, TeacherOptions, distil, progress, tie
from services.versions import ROOT
from tests.services.members.small import write_lines, write_small

OPTIONS = DistillOptions(steps=8, batch=2, rate=3e-3)

KILLED = """
import os, signal, sys
from pathlib import Path
from lifelong.compress.distillation import DistillOptions
from services.members.change import TeacherOptions, distil

def say(line):
    if line.startswith("step 5 "):
        os.kill(os.getpid(), signal.SIGKILL)

lesson = TeacherOptions(teacher=sys.argv[2], texts=(sys.argv[4],), every_s=0)
options = DistillOptions(steps=8, batch=2, rate=3e-3)
distil(sys.argv[1], Path(sys.argv[3]), lesson, options, data=None, say=say)
"""


def silent(_: str) -> None:
    """Shows nothing."""


@pytest.fixture
def paths(tmp_path: Path) -> tuple[str, str, str]:
    """A student, its teacher, and the texts."""
    teacher = write_small(tmp_path / "teacher")
    tie(teacher, tmp_path / "student", ShareOptions(attention="aabb", ffn="aabb", rank=4), say=silent)
    return str(tmp_path / "student"), teacher, write_lines(tmp_path / "lines")


def lesson(teacher: str, texts: str) -> TeacherOptions:
    return TeacherOptions(teacher=teacher, texts=(texts,), every_s=0)


def test_a_killed_distillation_goes_on_and_ends_with_the_same_bits(paths: tuple[str, str, str], tmp_path: Path) -> None:
    student, teacher, texts = paths
    whole = distil(student, tmp_path / "whole", lesson(teacher, texts), OPTIONS, data=None, say=silent)
    words = [sys.executable, "-c", KILLED, student, teacher, str(tmp_path / "again"), texts]
    done = subprocess.run(words, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "again").exists()
    said: list[str] = []
    made = distil(student, tmp_path / "again", lesson(teacher, texts), OPTIONS, data=None, say=said.append)
    assert said[0] == "resuming after step 4"
    assert made.cosine == whole.cosine
    once = load_encoder(whole.path)[0].state_dict()
    for name, value in load_encoder(made.path)[0].state_dict().items():
        assert torch.equal(value, once[name]), name
    assert not (tmp_path / "again.checkpoint").exists()


def test_the_checkpoint_of_other_options_is_refused(paths: tuple[str, str, str], tmp_path: Path) -> None:
    student, teacher, texts = paths
    words = [sys.executable, "-c", KILLED, student, teacher, str(tmp_path / "again"), texts]
    subprocess.run(words, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    other = DistillOptions(steps=9, batch=2)
    with pytest.raises(StateRefused, match="other options"):
        distil(student, tmp_path / "again", lesson(teacher, texts), other, data=None, say=silent)


def test_what_passes_the_rounding_is_written_as_it_is_stored(tmp_path: Path) -> None:
    """INT4 stays INT4, its multipliers and its token embeddings stay as they are, and its scales move."""
    teacher = write_small(tmp_path / "teacher")
    quantize(teacher, tmp_path / "int4", is_int4=True, say=silent)
    options = DistillOptions(steps=8, batch=2, rate=1e-2, rounded=True)
    texts = write_lines(tmp_path / "lines")
    made = distil(str(tmp_path / "int4"), tmp_path / "out", lesson(teacher, texts), options, data=None, say=silent)
    before, after = (stored_in(tmp_path / name) for name in ("int4", "out"))
    assert after["embed.word"].to_blob() == before["embed.word"].to_blob()
    old, new = (tensors["layers.0.up"].parts for tensors in (before, after))
    assert torch.equal(old["m"], new["m"])
    assert not torch.equal(old["hi"], new["hi"])
    assert not torch.equal(old["scale"], new["scale"])
    assert made.bytes == sum(len(tensor.to_blob()) for tensor in after.values())


def stored_in(folder: Path) -> dict[str, QTensor]:
    member = read_member(folder)
    assert member is not None
    return read_stored(folder, member)


def test_a_step_says_how_near_the_student_is() -> None:
    assert progress(1, 2, Losses(0.1, 0.2)) == "step 1 of 2: cosine 0.9000, layers 0.200"
