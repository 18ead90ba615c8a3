"""A child process loads the settings of its parent from the environment that it is given."""

import os
from pathlib import Path

from services.settings import as_environment, load


def test_a_child_reads_the_same_settings() -> None:
    environ = {
        "LIFELONG_SIGNING_KEY": "k" * 20,
        "LIFELONG_LOG_JSON": "true",
        "LIFELONG_ROLLOUT__MARGIN": "0.125",
        "LIFELONG_API_KEY": "the key of a client",
    }
    settings = load(file=None, environ=environ).settings
    assert load(file=Path(os.devnull), environ=as_environment(settings)).settings == settings
    files = {"LIFELONG_SIGNING_KEY_FILE": "/of/its/parent", "LIFELONG_API_KEY_FILE": "/of/its/parent"}
    assert load(file=Path(os.devnull), environ=files | as_environment(settings)).settings == settings


def test_a_child_reads_the_same_tables() -> None:
    flags = {"tasks.urgency": {}, "tasks.queue.labels.mode": "listed", "tasks.queue.labels.allow": ["a", "b"]}
    settings = load(file=Path(os.devnull), environ={}, flags=flags).settings
    assert settings.tasks == {"urgency": {}, "queue": {"labels": {"mode": "listed", "allow": ["a", "b"]}}}
    assert load(file=Path(os.devnull), environ=as_environment(settings)).settings == settings
