"""API keys: a file of names, roles and digests, which replicas read again when it changes.

    lifelong keys create NAME --role predict --> the key, shown once;  NAME, roles, SHA-256 --> the file
    request --x-api-key, or Authorization: Bearer--> ApiKey, or none --> its name is the source of its labels, and the
                                                     bucket of its rate limit; its roles say what it may do, and its
                                                     sources in whose name it may send events

A key is 256 random bits, so its plain digest reveals nothing, and a slow one would only cost the replica. Keys are
found by digest: the time of a look-up reveals nothing about other keys. A file that cannot be read any more changes
nothing: the keys that were read last stay valid.

Rejected: keys among the settings (they would have to be secret, and a new one would need a restart), and keys in Redis
(an outage of the store would end the answers by HTTP).
"""

import secrets
from collections.abc import Iterable, Sequence
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
import structlog

from wire.envelope import MAX_FIELD_BYTES
from wire.files import FileWatch, atomic_write
from wire.rate_limits import MAX_NAME_CHARS

PREFIX: Final = "lifelong_"
"""The beginning of each key, by which scanners for secrets know one."""

MAX_KEYS: Final = 10_000
CHECK_S: Final = 1.0
"""Interval at which a replica looks whether the file has changed."""

UNREADABLE: Final = (OSError, UnicodeDecodeError, msgspec.MsgspecError)

log = structlog.get_logger("http")


class Role(StrEnum):
    """What a key may do. An administrator may do everything, and vouches for the labels that replace others."""

    PREDICT = "predict"
    FEEDBACK = "feedback"
    ADMIN = "admin"


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key: `digest` is the SHA-256 of its text, in hexadecimal; `sources` are those that its events may name."""

    name: str
    digest: str
    roles: tuple[Role, ...]
    created_ms: int
    sources: tuple[str, ...] = ()

    def may(self, role: Role) -> bool:
        return role in self.roles or Role.ADMIN in self.roles


class BadKeys(ValueError):
    """A file of keys that cannot be read, or a change of it that cannot be made."""


class KeyFile:
    """The keys of a file, as one replica sees them. Raises BadKeys where the file cannot be read at the start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._watch = FileWatch(path, check_s=CHECK_S)
        self._keys = self._read()

    def find(self, key: str) -> ApiKey | None:
        """Returns the key with this text; None where there is none, or where it was revoked a second ago."""
        try:
            keys = self._watch.read_again(self._read)
        except BadKeys as error:
            log.error("keys_not_read", path=str(self._path), error=str(error))
        else:
            self._keys = self._keys if keys is None else keys
        return self._keys.get(digest_of(key))

    def _read(self) -> dict[str, ApiKey]:
        return {key.digest: key for key in read_keys(self._path)}


def digest_of(key: str) -> str:
    return sha256(key.encode(errors="replace")).hexdigest()


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """Returns the keys of a file. Raises BadKeys."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[ApiKey, ...])
    except UNREADABLE as error:
        raise BadKeys(f"{path}: cannot be read as API keys ({error}); `lifelong keys create NAME` makes it") from None


def create_key(
    path: Path, name: str, roles: Iterable[Role], *, now_ms: int, sources: Sequence[str] = ()
) -> tuple[ApiKey, str]:
    """Adds a key to the file, which is made where there is none; returns it, and its text. Raises BadKeys."""
    keys = read_keys(path) if path.exists() else ()
    if any(key.name == name for key in keys):
        raise BadKeys(f"{name!r} has a key already: revoke it first, or choose another name")
    if not name.strip() or len(name) > MAX_NAME_CHARS:
        raise BadKeys(f"a key needs a name of 1 to {MAX_NAME_CHARS} characters: it is the source of its labels")
    if wrong := [source for source in sources if not 0 < len(source.encode()) <= MAX_FIELD_BYTES]:
        raise BadKeys(f"{wrong[0][:40]!r} is no source of events: give 1 to {MAX_FIELD_BYTES} bytes")
    if len(keys) >= MAX_KEYS:
        raise BadKeys(f"{path} has {len(keys)} keys, as many as it may")
    text = PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(
        name=name,
        digest=digest_of(text),
        roles=tuple(dict.fromkeys(roles)),
        created_ms=now_ms,
        sources=tuple(dict.fromkeys(sources)),
    )
    _write(path, (*keys, key))
    return key, text


def revoke_key(path: Path, name: str) -> ApiKey:
    """Removes a key from the file, and returns it. Replicas refuse it within CHECK_S. Raises BadKeys."""
    keys = read_keys(path)
    revoked = next((key for key in keys if key.name == name), None)
    if revoked is None:
        raise BadKeys(f"no key is named {name!r}; there are {', '.join(key.name for key in keys) or 'none'}")
    _write(path, tuple(key for key in keys if key is not revoked))
    return revoked


def _write(path: Path, keys: tuple[ApiKey, ...]) -> None:
    with atomic_write(path, mode=0o600, is_synced=True) as file:
        file.write(msgspec.json.format(msgspec.json.encode(keys), indent=1) + b"\n")
