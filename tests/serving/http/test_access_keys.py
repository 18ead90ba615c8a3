"""The file of API keys: what a replica reads of it, and what the command writes."""

import os
from pathlib import Path

import pytest

from serving.http import access
from serving.http.access import BadKeys, KeyFile, Role, create_key, read_keys, revoke_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "CHECK_S", -1.0)


def test_a_key_is_found_by_its_text_alone(path: Path) -> None:
    _, shop = create_key(path, "shop", [Role.PREDICT], now_ms=5)
    _, owner = create_key(path, "owner", [Role.ADMIN], now_ms=6)
    file = KeyFile(path)
    found = file.find(shop)
    assert found is not None
    assert (found.name, found.may(Role.PREDICT), found.may(Role.FEEDBACK)) == ("shop", True, False)
    admin = file.find(owner)
    assert admin is not None
    assert all(admin.may(role) for role in Role)
    assert not [wrong for wrong in ("", "shop", shop[:-1], f"{shop} ", found.digest) if file.find(wrong)]


def test_the_file_has_no_key_and_is_its_owner_s(path: Path) -> None:
    _, text = create_key(path, "shop", [Role.PREDICT], now_ms=5)
    assert text not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_revoked_key_is_refused_without_a_restart(path: Path) -> None:
    _, shop = create_key(path, "shop", [Role.PREDICT], now_ms=5)
    file = KeyFile(path)
    assert file.find(shop)
    revoke_key(path, "shop")
    _, other = create_key(path, "other", [Role.PREDICT], now_ms=6)
    assert (file.find(shop), file.find(other) is not None) == (None, True)


@pytest.mark.parametrize("content", [None, b"", b"{}", b'[{"name": "x"}]', b"\xff"])
def test_a_file_that_cannot_be_read_any_more_changes_nothing(path: Path, content: bytes | None) -> None:
    _, shop = create_key(path, "shop", [Role.PREDICT], now_ms=5)
    file = KeyFile(path)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
        os.utime(path, ns=(1, 1))
    assert file.find(shop)
    with pytest.raises(BadKeys, match=r"keys\.json"):
        KeyFile(path)


def test_a_name_has_one_key(path: Path) -> None:
    create_key(path, "shop", [Role.PREDICT], now_ms=5)
    for name, said in (("shop", "has a key already"), ("  ", "needs a name"), ("x" * 101, "needs a name")):
        with pytest.raises(BadKeys, match=said):
            create_key(path, name, [Role.PREDICT], now_ms=6)
    with pytest.raises(BadKeys, match="the keys are: shop"):
        revoke_key(path, "nobody")
    assert [key.name for key in read_keys(path)] == ["shop"]
