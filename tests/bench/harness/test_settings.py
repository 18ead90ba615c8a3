"""A benchmark sets settings and internal constants, and a child process has both."""

import json
import os
from pathlib import Path

import pytest

from bench.harness.settings import load_settings
from services.settings import BadSettings, as_environment, load
from wire.sections import INTERNAL_VARIABLE

NAMED = {"serving.replicas": 2, "learner.slow_batch": 16}


def test_constants_and_settings_reach_a_child_process() -> None:
    environ = {INTERNAL_VARIABLE: json.dumps({"learner.slow_batch": 8, "learner.probes": 2})}
    settings = load_settings(NAMED, file=Path(os.devnull), environ=environ).settings
    assert (settings.serving.replicas, settings.learner.slow_batch, settings.learner.probes) == (2, 16, 2)
    assert load(file=Path(os.devnull), environ=as_environment(settings)).settings == settings


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(BadSettings, match=r"Did you mean learner\.slow_rate"):
        load_settings({"learner.slow_rat": 1}, file=Path(os.devnull), environ={})
