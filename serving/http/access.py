"""Who asks, and what it may: by API key if keys are required, by address otherwise; how often, and in whose name.

    lifelong keys create NAME --role predict --> the key, shown once;  NAME, roles, SHA-256 --> the file
    request --x-api-key, or Authorization: Bearer--> ApiKey, or none --> ApiClient

The name of a client is the source of its labels, and the bucket of its rate limit; the roles of its key say what it may
do, and the sources of its key in whose name it may send events.

A key is 256 random bits, so its plain digest reveals nothing, and a slow one would only cost the replica. Keys are
found by digest: the time of a look-up reveals nothing about other keys. Replicas read the file again when it changes. A
file that cannot be read any more changes nothing: the keys that were read last stay valid.

The source of an event is part of its identity, so a client chooses it only below its own name: what is sent as `S` is
of the source `http/S`, with an API key `http/NAME/S`, and what names none `http` or `http/NAME`. A key may be given
sources that it names as they are.
"""

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Final

import msgspec
import structlog

from serving.http.origin import Hosts, network_of, problem_of_sender, problem_of_type
from serving.http.problems import Problem, RequestRefused
from serving.http.schemas import SOURCE, Entry, wrong_shape
from wire.envelope import MAX_FIELD_BYTES
from wire.files import FileWatch, atomic_write
from wire.rate_limits import MAX_NAME_CHARS, TokenBuckets
from wire.records import Event

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


KEY_HEADER = "x-api-key"
BEARER = "bearer "

NO_KEY = Problem(
    status=HTTPStatus.UNAUTHORIZED,
    code="unauthenticated",
    message="an API key is required, as `x-api-key` or `Authorization: Bearer`",
)


def _forbidden(role: Role) -> Problem:
    return Problem(
        status=HTTPStatus.FORBIDDEN, code="forbidden", message=f"this needs an API key with the role {role.value!r}"
    )


@dataclass(frozen=True, slots=True)
class ApiClient:
    """Who asks. `name` is the source of its labels and the bucket of its rate limit; `key` is None where no key is
    required."""

    name: str
    key: ApiKey | None

    def require(self, role: Role) -> None:
        """Raises RequestRefused where no key with this role was sent, even where keys are not required."""
        if self.key is None or not self.key.may(role):
            raise RequestRefused(_forbidden(role))

    def named(self, entry: Entry) -> Entry:
        """Returns an event, read as one of HTTP, under the name of this client; a source that is too long then is a
        problem."""
        if self.key is None or not isinstance(entry, Event):
            return entry
        below = entry.source.removeprefix(SOURCE)  # "", or a slash and what was sent
        if below and below[1:] in self.key.sources:
            return msgspec.structs.replace(entry, source=below[1:])
        source = f"{SOURCE}/{_quoted(self.key.name)}{below}"
        if len(source.encode()) > MAX_FIELD_BYTES:
            return wrong_shape(f"`source` has more than {MAX_FIELD_BYTES} bytes below the name of its API key")
        return msgspec.structs.replace(entry, source=source)


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """`keys` is None where no key is required, `limit` where clients are not rate limited. One event loop uses it.

    `hosts` are those that a request without a key may be meant for.
    """

    keys: KeyFile | None
    limit: TokenBuckets | None
    hosts: Hosts = "loopback"

    def check_sender(self, headers: Mapping[str, str], *, has_body: bool) -> None:
        """Raises RequestRefused where no key is required, and a page of others may have sent the request of HTTP."""
        if self.keys is not None:
            return
        problem = problem_of_sender(headers, hosts=self.hosts) or (problem_of_type(headers) if has_body else None)
        if problem:
            raise RequestRefused(problem)

    def client(self, address: str, headers: Mapping[str, str], role: Role | None) -> ApiClient:
        """Returns who asks for what needs `role` (None: any key will do). Raises RequestRefused."""
        if self.keys is None:
            return ApiClient(network_of(address), None)
        key = self.keys.find(_key_in(headers))
        if key is None:
            raise RequestRefused(NO_KEY)
        client = ApiClient(key.name, key)
        if role is not None:
            client.require(role)
        return client

    def take(self, client: ApiClient, num: int) -> None:
        """Takes the tokens of `num` events or labels. Raises RequestRefused where the client has too few."""
        wait_s = self.limit.take(client.name, num, now=time.monotonic()) if self.limit is not None else 0.0
        if wait_s:
            raise RequestRefused(_too_many(wait_s))


def _quoted(name: str) -> str:
    """Returns the name of a key as one part of a source: without a slash, so that no two clients share one."""
    return name.replace("%", "%25").replace("/", "%2F")


def bearer_in(headers: Mapping[str, str]) -> str | None:
    """Returns what is behind `Authorization: Bearer ` (RFC 6750, section 2.1); None where that is not there."""
    authorization = headers.get("authorization", "")
    is_bearer = authorization[: len(BEARER)].lower() == BEARER
    return authorization[len(BEARER) :] if is_bearer else None


def _key_in(headers: Mapping[str, str]) -> str:
    token = bearer_in(headers)
    return headers.get(KEY_HEADER, "") if token is None else token.strip()


def _too_many(wait_s: float) -> Problem:
    return Problem(
        status=HTTPStatus.TOO_MANY_REQUESTS,
        code="rate_limited",
        message="this client asks for more events a second than it may",
        retry_after_s=wait_s,
    )
