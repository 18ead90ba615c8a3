"""Tests which store is opened: the store of the settings, of the running stack, or of the state folder."""

from pathlib import Path

import pytest

from services.open_store import opened_store, own_store
from services.running import NotRunning, claim
from services.settings import Settings, replaced
from tests.stores import KEYS
from wire.config import StoreConfig
from wire.errors import StoreUnavailable

pytestmark = pytest.mark.live


def test_the_store_of_the_settings_is_opened_where_there_is_one(store_config: StoreConfig, tmp_path: Path) -> None:
    changes = {"store.url": store_config.url, "store.prefix": store_config.prefix, "signing_key": KEYS.text}
    with opened_store(replaced(Settings(state_dir=tmp_path), changes)) as (settings, store):
        assert settings.store.url == store_config.url and store.versions.current() == 0
    assert not (tmp_path / "redis").exists()


def test_the_redis_of_the_state_folder_runs_for_as_long_as_it_is_needed(tmp_path: Path) -> None:
    with opened_store(Settings(state_dir=tmp_path)) as (_, store):
        assert store.versions.current() == 0
        with pytest.raises(NotRunning, match="a stack starts or ends"), own_store(Settings(state_dir=tmp_path)):
            pass
    with pytest.raises(StoreUnavailable):
        store.versions.current()
    lock = claim(tmp_path)
    assert lock is not None
    lock.close()
