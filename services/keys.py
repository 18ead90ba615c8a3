"""The signing key: given by the settings, or generated once for a local Redis and stored beside its data.

All programs that share a Redis server need the same key. So a key is generated only for a server that ends with us.
"""

import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import SecretStr

from services.local.folders import new_folder
from services.settings import MIN_KEY_CHARS, BadSettings, Settings, replaced, variable_of
from wire.files import atomic_write

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
    """Returns the key in `path`, generated where there is none. Raises BadSettings where the file holds no key."""
    key = generated_once(path, lambda: secrets.token_hex(32))
    if len(key) < MIN_KEY_CHARS:
        raise BadSettings(
            f"{path}: holds no signing key. Restore it from a copy. Where there is none, nothing that was signed with "
            f"it can be read any more: remove it and {path.parent / 'redis'}, and begin anew"
        )
    return key


def generated_once(path: Path, generate: Callable[[], str]) -> str:
    """Returns what `path` holds; where there is no such file, it gets what `generate` returns.

    The file is readable only by its owner, written atomically, and on disk before anybody uses what it holds.
    """
    if not path.exists():
        new_folder(path.parent)
        with suppress(FileExistsError), atomic_write(path, mode=0o600, is_synced=True, may_replace=False) as file:
            file.write(generate().encode())
    return path.read_text()
