"""The signing key: given by settings, or made once for a Redis of our own and kept beside its data.

Whoever shares a Redis server must be given the same key; only a server that ends with us may have one that we made up.
"""

import os
import secrets
from pathlib import Path

from pydantic import SecretStr

from services.local.folders import new_folder
from services.settings import MIN_KEY_CHARS, Settings, replaced
from services.sources import BadSettings, SettingProblem, variable_of

FILE = "signing.key"


def with_signing_key(settings: Settings, *, own_store: bool) -> Settings:
    """The settings with a signing key. Raises BadSettings where one must be given and is not."""
    if settings.signing_key is not None:
        return settings
    if not own_store:
        fix = "Give the secret that the other programs on this Redis server use, in this variable"
        raise BadSettings(
            [SettingProblem(variable_of("signing_key"), "is required where store.url names a server", fix)]
        )
    return replaced(settings, {"signing_key": SecretStr(_kept(settings.state_dir / FILE))})


def key_bytes(settings: Settings) -> bytes:
    """The key of settings that have one: those of `with_signing_key`."""
    assert settings.signing_key is not None, "attach, or start a stack, first"
    return settings.signing_key.get_secret_value().encode()


def _kept(path: Path) -> str:
    """The key in `path`, made when there is none. Raises BadSettings where what is there is no key.

    It is readable by its owner only, whole or not there at all, and on disk before anything is signed with it.
    """
    if not path.exists():
        _make(path)
    key = path.read_text()
    if len(key) < MIN_KEY_CHARS:
        fix = (
            "Restore it from a copy. Where there is none, nothing that was signed with it can be read any more: remove "
            f"it and {path.parent / 'redis'}, and begin anew"
        )
        raise BadSettings([SettingProblem(str(path), "holds no signing key", fix)])
    return key


def _make(path: Path) -> None:
    new_folder(path.parent)
    draft = path.with_suffix(f".{os.getpid()}")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(file, secrets.token_hex(32).encode())
        os.fsync(file)
    finally:
        os.close(file)
    try:
        os.link(draft, path)  # the first of two programs wins
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
