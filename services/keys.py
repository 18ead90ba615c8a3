"""The file of keys that sign: given by the settings, or generated once for a local Redis and stored beside its data.

All programs that share a Redis server need keys of one installation, so they are generated only for a server that ends
with us. `services/signing_keys.py` changes the file; what a key is and does says `wire/keyring/`.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import SecretStr

from services.local.folders import new_folder
from services.settings import MIN_KEY_CHARS, BadSettings, Settings, replaced, variable_of
from wire.files import atomic_write
from wire.keyring import KeyRing, new_ring, parse

FILE = "signing.key"


def with_signing_key(settings: Settings, *, own_store: bool) -> Settings:
    """Returns the settings with keys. Raises BadSettings where they must be given and are not."""
    if settings.signing_key is not None:
        return settings
    if not own_store:
        raise BadSettings(
            f"{variable_of('signing_key')}: is required where store.url names a server. Give the keys that the other "
            "programs on this Redis server use, in this variable or in the file that "
            f"{variable_of('signing_key')}_FILE names; `lifelong signing-keys new` makes the first"
        )
    return replaced(settings, {"signing_key": SecretStr(_stored_keys(settings.state_dir / FILE))})


def require_keys(settings: Settings, wanted: str) -> None:
    """Raises BadSettings, which names the `wanted`, where no keys are given and none are stored: none are made."""
    path = settings.state_dir / FILE
    if settings.signing_key is None and not path.exists():
        raise BadSettings(f"{variable_of('signing_key')}_FILE: is required. Name {wanted}, or copy it to {path}")


def ring_of(settings: Settings) -> KeyRing:
    """Returns the keys of settings that have them: those of `with_signing_key`."""
    assert settings.signing_key is not None, "attach, or start a stack, first"
    return parse(settings.signing_key.get_secret_value())


def for_replicas(settings: Settings) -> Settings:
    """Returns the settings with the keys that a replica needs, none of which signs weights or plans."""
    return replaced(settings, {"signing_key": SecretStr(ring_of(settings).for_replicas().text)})


def _stored_keys(path: Path) -> str:
    """Returns what is in `path`, generated where there is none. Raises BadSettings where the file holds no keys."""
    text = generated_once(path, lambda: new_ring().text)
    try:
        if len(text) < MIN_KEY_CHARS:
            raise ValueError(f"{len(text)} characters")
        parse(text)
    except ValueError as error:
        raise BadSettings(
            f"{path}: holds no keys ({error}). Restore it from a copy. Where there is none, nothing that was signed "
            f"with them can be read any more: remove it and {path.parent / 'redis'}, and begin anew"
        ) from error
    return text


def generated_once(path: Path, generate: Callable[[], str]) -> str:
    """Returns what `path` holds; where there is no such file, it gets what `generate` returns.

    The file is readable only by its owner, written atomically, and on disk before anybody uses what it holds.
    """
    if not path.exists():
        new_folder(path.parent)
        with suppress(FileExistsError), atomic_write(path, mode=0o600, is_synced=True, may_replace=False) as file:
            file.write(generate().encode())
    return path.read_text()
