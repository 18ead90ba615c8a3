"""Tests the demo command: the options that it refuses, and its log."""

import logging
from pathlib import Path

import pytest

from services.demo.command import USAGE, expected_s, logging_into, run
from services.demo.options import DemoOptions
from services.settings import Settings, load
from wire.logs import HIDDEN, LogConfig


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(file=None, environ={"LIFELONG_STATE_DIR": str(tmp_path)}).settings


def test_a_data_set_that_is_not_there_starts_nothing(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(settings, DemoOptions(data="nowhere")) == USAGE
    assert "no data set 'nowhere'" in capsys.readouterr().err
    assert not list(settings.state_dir.iterdir())


def test_what_libraries_log_goes_into_a_file_without_secrets(tmp_path: Path) -> None:
    before = logging.getLogger().handlers
    with logging_into(tmp_path / "logs" / "demo.log", LogConfig(secrets=("correct-horse",))):
        logging.getLogger("kafka").warning("no news of redis://me:hush@host by %s", "correct-horse")
    (line,) = (tmp_path / "logs" / "demo.log").read_text().splitlines()
    assert f"no news of redis://{HIDDEN}@host by {HIDDEN}" in line
    assert logging.getLogger().handlers is before


def test_the_carried_stream_takes_two_minutes_and_a_half_at_most() -> None:
    stream = DemoOptions().stream(None, 0)
    assert 60 < expected_s(stream, stream.default_rate) <= 150
    by_stage = DemoOptions(order="stages").stream(None, 0)
    assert expected_s(by_stage, by_stage.default_rate) > expected_s(stream, stream.default_rate)
