"""Tests the settings of an untrained service: the folder of its state, and the files that it leaves."""

from pathlib import Path

import pytest

from learner.errors import DataError
from services.demo.fresh import fresh
from services.local.supervisor import StackFailed
from services.settings import Settings, load, replaced


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(file=None, environ={"LIFELONG_STATE_DIR": str(tmp_path), "LIFELONG_BUS__PREFIX": "eu."}).settings


def test_a_run_begins_with_nothing_learned(settings: Settings) -> None:
    with fresh(settings) as own:
        assert own.state_dir.parent == settings.state_dir
        assert str(own.learner.state_dir).startswith(str(own.state_dir))
        assert own.bus.prefix.startswith("eu.demo-")
        assert own.store.prefix.startswith(f"{settings.store.prefix}demo-")
        assert settings.learner.learn_unlabelled and not own.learner.learn_unlabelled
        assert own.serving.spool_dir == str(own.state_dir / "spool")
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


def test_the_checkpoints_that_a_service_shares_are_neither_read_nor_replaced(
    settings: Settings, tmp_path: Path
) -> None:
    shared = replaced(settings, {"learner.checkpoint_url": f"file://{tmp_path}/shared"})
    with fresh(shared) as own:
        assert own.learner.checkpoint_url == ""
