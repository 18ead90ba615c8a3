"""Tests the demo command: what it refuses, and which files it leaves."""

import logging
from pathlib import Path

import pytest

from learner.errors import DataError
from services.demo.command import USAGE, expected_s, fresh, logging_into, run
from services.demo.options import DemoOptions
from services.settings import Settings, load
from services.supervisor import StackFailed
from wire.logs import HIDDEN, LogConfig


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(file=None, environ={"LIFELONG_STATE_DIR": str(tmp_path), "LIFELONG_BUS__PREFIX": "eu."}).settings


def test_a_data_set_that_is_not_there_starts_nothing(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(settings, DemoOptions(data="nowhere")) == USAGE
    assert "no data set 'nowhere'" in capsys.readouterr().err
    assert not list(settings.state_dir.iterdir())


def test_a_run_begins_with_nothing_learned(settings: Settings) -> None:
    with fresh(settings) as own:
        assert own.state_dir.parent == settings.state_dir
        assert str(own.learner.state_dir).startswith(str(own.state_dir))
        assert own.bus.prefix.startswith("eu.demo-")
        assert own.store.prefix.startswith(f"{settings.store.prefix}demo-")
        assert settings.learner.learn_unlabelled and not own.learner.learn_unlabelled
        own.state_dir.mkdir()
    assert not own.state_dir.exists()


@pytest.mark.parametrize(("error", "kept"), [(KeyboardInterrupt, False), (DataError, False), (StackFailed, True)])
def test_the_logs_of_a_run_that_failed_are_kept(settings: Settings, error: type[BaseException], kept: bool) -> None:
    with pytest.raises(error), fresh(settings) as own:
        for name in ("logs", "redis"):
            (own.state_dir / name).mkdir(parents=True)
        (own.state_dir / "stack.lock").touch()
        raise error
    left = [path.name for path in own.state_dir.iterdir()] if own.state_dir.exists() else []
    assert left == (["logs"] if kept else [])


def test_what_a_killed_run_has_left_goes_with_the_next(settings: Settings) -> None:
    """B25, number 5."""
    left = settings.state_dir / "demo-1"
    left.mkdir()
    (left / "stack.lock").touch()
    with fresh(settings):
        assert not left.exists()


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
