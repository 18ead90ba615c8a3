"""Tests the check of a user's class: its size, whether its vectors depend on each other, and its times."""

import json
import os

import pytest

from services.encoder_check import check_module
from services.versions import ROOT
from tests.model.module_encoders import Centred, Letters, import_path
from tests.services.command_line import lifelong


def test_a_class_is_measured() -> None:
    found = check_module("services.templates.encoder:GreyImages")
    assert found.is_right and found.cosines == {"fp32": pytest.approx(1.0)}
    assert found.parameters == found.trained == 113_664
    assert found.ms["fp32"].keys() == {"1", "16", "64"}


def test_vectors_that_depend_on_others_are_wrong() -> None:
    assert not check_module(import_path(Centred)).is_right


def test_the_command_prints_it() -> None:
    path = os.environ.get("PYTHONPATH", str(ROOT))
    done = lifelong("encoder", "check", import_path(Letters), "--json", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trained"] < json.loads(done.stdout)["parameters"]
    assert lifelong("encoder", "check", "no_such:Class", PYTHONPATH=path).returncode == 78
    wrong = lifelong("encoder", "check", import_path(Centred), PYTHONPATH=path)
    assert wrong.returncode == 78 and "WRONG" in wrong.stdout
