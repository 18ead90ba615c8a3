"""The file of keys that sign: given by the settings, or generated once for a local Redis and stored beside its data.

All programs that share a Redis server need keys of one installation, so they are generated only for a server that ends
with us. `services/signing_keys.py` changes the file; what a key is and does says `wire/keyring.py`.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import SecretStr

from services.local.folders import new_folder
from services.settings import MIN_KEY_CHARS, BadSettings, Settings, replaced, variable_of
from wire.files import atomic_write
from wire.keyring import Key, KeyRing, followed, new_ring, parse

FILE = "signing.key"
REPLICA_FILE = "replica.keys"


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
    path = settings.state_dir / FILE
    return replaced(settings, {"signing_key": SecretStr(_stored_keys(path))}).with_key_file(path)


def require_keys(settings: Settings, wanted: str) -> None:
    """Raises BadSettings, which names the `wanted`, where no keys are given and none are stored: none are made."""
    path = settings.state_dir / FILE
    if settings.signing_key is None and not path.exists():
        raise BadSettings(f"{variable_of('signing_key')}_FILE: is required. Name {wanted}, or copy it to {path}")


def ring_of(settings: Settings) -> KeyRing:
    """Returns the keys of settings that have them: those of `with_signing_key`, and those of their file from now on."""
    assert settings.signing_key is not None, "attach, or start a stack, first"
    ring = parse(settings.signing_key.get_secret_value())
    return ring if settings.key_file is None else followed(settings.key_file, ring)


class ReplicaKeys:
    """Keeps the file of the keys that replicas of this machine follow, none of which signs weights or plans.

    There is one where the keys of the service are in a file, too.
    """

    def __init__(self, settings: Settings) -> None:
        self._ring = ring_of(settings)
        self._path = settings.state_dir / REPLICA_FILE if settings.key_file else None
        self._written: tuple[Key, ...] = ()
        self._write()

    def follow(self) -> None:
        """Writes the file anew where the keys of the service have changed; again later, where the disk is full."""
        if self._ring.keys is not self._written:
            with suppress(OSError):
                self._write()

    def _write(self) -> None:
        keys = self._ring.keys
        if self._path is not None:
            with atomic_write(self._path, mode=0o600) as file:
                file.write(self._ring.for_replicas().text.encode())
        self._written = keys

    def given_to(self, settings: Settings) -> Settings:
        """Returns the settings of replicas."""
        public = replaced(settings, {"signing_key": SecretStr(self._ring.for_replicas().text)})
        return public.with_key_file(self._path) if self._path is not None else public


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
