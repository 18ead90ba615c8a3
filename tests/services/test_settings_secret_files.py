"""Tests that every secret can be read from a file, in every layer."""

from pathlib import Path

import pytest

from services.settings import MAX_SECRET_BYTES, BadSettings, Settings, load, read_secret_files
from services.settings_docs import schemas

KEY = "a key of some length"
SECRETS = [name for name, schema in schemas(Settings).items() if schema["writeOnly"]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"{KEY}\n")
    return path


@pytest.mark.parametrize("name", SECRETS)
def test_every_secret_may_be_in_a_file(file: Path, name: str) -> None:
    assert read_secret_files({f"{name}_file": str(file)}, SECRETS) == ({name: KEY}, [])


def test_a_later_layer_wins_with_a_file_as_without(file: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text('signing_key = "the key of the file of settings"\n')
    loaded = load(file=settings, environ={"LIFELONG_SIGNING_KEY_FILE": str(file)})
    assert loaded.settings.signing_key is not None
    assert loaded.settings.signing_key.get_secret_value() == KEY
    assert loaded.origins["signing_key"] == "LIFELONG_SIGNING_KEY_FILE"
    settings.write_text(f'signing_key_file = "{file}"\n')
    assert load(file=settings, environ={}).settings.signing_key == loaded.settings.signing_key


def test_both_in_one_layer_are_refused(file: Path) -> None:
    with pytest.raises(BadSettings, match="signing_key and signing_key_file: only one"):
        load(file=None, environ={"LIFELONG_SIGNING_KEY": KEY, "LIFELONG_SIGNING_KEY_FILE": str(file)})


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "No such file"), (b"", "it is empty"), (b"x" * (MAX_SECRET_BYTES + 1), "more than"), (b"\xff", "utf-8")],
)
def test_a_file_without_a_secret_is_named(tmp_path: Path, content: bytes | None, why: str) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    values, problems = read_secret_files({"signing_key_file": str(path)}, SECRETS)
    assert values == {}
    assert f"signing_key_file: {path}" in problems[0] and why in problems[0]


def test_what_is_no_secret_has_no_file(file: Path) -> None:
    with pytest.raises(BadSettings, match=r"bus\.prefix_file is not a setting"):
        load(file=None, environ={}, flags={"bus.prefix_file": str(file)})
