"""Tests the signing key: generated once, readable only by its owner, and required if Redis is not ours."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from services.keys import FILE, REPLICA_FILE, ReplicaKeys, key_ring, with_signing_key, write_keys
from services.settings import BadSettings, Settings, as_environment, load, replaced
from wire.keyring import Kind, new_ring, parse


def test_the_signing_key_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    first = with_signing_key(settings, own_store=True).signing_key
    assert first == with_signing_key(settings, own_store=True).signing_key
    assert (tmp_path / "state" / FILE).stat().st_mode & 0o777 == 0o600
    assert len(list((tmp_path / "state").iterdir())) == 1


@pytest.mark.parametrize("found", ["", "cut off"])
def test_a_key_that_a_power_cut_has_emptied_is_told(tmp_path: Path, found: str) -> None:
    """B25, number 3: the key is on disk before anything is signed with it, and is never read incomplete."""
    (tmp_path / FILE).write_text(found)
    with pytest.raises(BadSettings, match=r"signing\.key: holds no keys \(\d+ characters\)\. Restore it from a copy"):
        with_signing_key(Settings(state_dir=tmp_path), own_store=True)


def test_a_signing_key_is_asked_for_where_redis_is_not_ours(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="LIFELONG_SIGNING_KEY: is required"):
        with_signing_key(Settings(state_dir=tmp_path), own_store=False)
    given_key = Settings(state_dir=tmp_path, signing_key=SecretStr("k" * 20))
    assert with_signing_key(given_key, own_store=False) == given_key


def test_programs_that_are_started_follow_the_file_of_the_keys(tmp_path: Path) -> None:
    path = tmp_path / "signing.keys"
    write_keys(path, new_ring())
    settings = load(file=Path("/dev/null"), environ={"LIFELONG_SIGNING_KEY_FILE": str(path)}).settings
    settings = replaced(settings, {"state_dir": tmp_path, "bus.prefix": "x."})
    assert settings.key_file == path
    environ = as_environment(settings)
    assert environ["LIFELONG_SIGNING_KEY_FILE"] == str(path)
    assert "LIFELONG_SIGNING_KEY" not in environ or environ["LIFELONG_SIGNING_KEY"] == ""
    child = load(file=Path("/dev/null"), environ=environ).settings
    assert (child.key_file, child.signing_key) == (path, settings.signing_key)
    assert as_environment(replaced(settings, {"signing_key": "k" * 20}))["LIFELONG_SIGNING_KEY"] == "k" * 20


def test_replicas_follow_a_file_of_their_own_that_signs_nothing(tmp_path: Path) -> None:
    settings = with_signing_key(Settings(state_dir=tmp_path), own_store=True)
    replica_keys = ReplicaKeys(settings)
    given = replica_keys.replica_settings(settings)
    assert given.key_file == tmp_path / REPLICA_FILE
    assert not parse((tmp_path / REPLICA_FILE).read_text()).of(Kind.SECRET)
    assert key_ring(given).accepted == key_ring(settings).accepted
    write_keys(tmp_path / FILE, new_ring())
    ReplicaKeys(settings)
    assert key_ring(given).accepted == key_ring(settings).accepted
