"""The options of the Ray that is started here, and that none are given to one that runs already."""

from pathlib import Path

import pytest

from services.settings import Settings
from serving.cluster import _init_options, is_shared
from serving.replica_config import ReplicaConfig
from wire.config import TrustConfig
from wire.keyring import parse


@pytest.fixture
def config() -> ReplicaConfig:
    return ReplicaConfig.of(Settings(), ring=parse("k" * 20), trust=TrustConfig())


def test_our_own_ray_has_a_process_for_each_replica_and_one_more(
    config: ReplicaConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    options = _init_options(config, tmp_path)
    assert not is_shared()
    assert options["num_cpus"] == config.serving.replicas + 1
    assert options["_temp_dir"] == str(tmp_path)
    assert not options["include_dashboard"]


def test_a_ray_of_others_is_taken_as_it_is(
    config: ReplicaConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "somewhere:6379")
    assert is_shared()
    assert _init_options(config, tmp_path) == {}
