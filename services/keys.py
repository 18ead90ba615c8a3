"""The signing key: given by the settings, or generated once for a local Redis and stored beside its data.

All programs that share a Redis server need the same key. So a key is generated only for a server that ends with us.
"""

import os
import secrets
from pathlib import Path

from pydantic import SecretStr

from services.local.folders import new_folder
from services.settings import MIN_KEY_CHARS, BadSettings, Settings, replaced, variable_of

FILE = "signing.key"


def with_signing_key(settings: Settings, *, own_store: bool) -> Settings:
    """Returns the settings with a signing key. Raises BadSettings where one must be set and is not."""
    if settings.signing_key is not None:
        return settings
    if not own_store:
        raise BadSettings(
            f"{variable_of('signing_key')}: is required where store.url names a server. Give the secret that the other "
            "programs on this Redis server use, in this variable"
        )
    return replaced(settings, {"signing_key": SecretStr(_stored_key(settings.state_dir / FILE))})


def key_bytes(settings: Settings) -> bytes:
    """Returns the key of settings that have one: those of `with_signing_key`."""
    assert settings.signing_key is not None, "attach, or start a stack, first"
    return settings.signing_key.get_secret_value().encode()


def _stored_key(path: Path) -> str:
    """Returns the key in `path`, generated where there is none. Raises BadSettings where the file holds no key.

    The file is readable only by its owner, written atomically, and on disk before anything is signed with the key.
    """
    if not path.exists():
        _generate(path)
    key = path.read_text()
    if len(key) < MIN_KEY_CHARS:
        raise BadSettings(
            f"{path}: holds no signing key. Restore it from a copy. Where there is none, nothing that was signed with "
            f"it can be read any more: remove it and {path.parent / 'redis'}, and begin anew"
        )
    return key


def _generate(path: Path) -> None:
    new_folder(path.parent)
    draft = path.with_suffix(f".{os.getpid()}")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(file, secrets.token_hex(32).encode())
        os.fsync(file)
    finally:
        os.close(file)
    try:
        os.link(draft, path)  # of two concurrent programs the first wins
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
