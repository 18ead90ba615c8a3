"""Authentication, authorization and rate limits of clients: by API key if keys are required, by address otherwise.

    lifelong keys create NAME --role predict --> the key, shown once;  NAME, roles, SHA-256 --> the file
    request --x-api-key, or Authorization: Bearer--> ApiKey, or none --> ApiClient

The name of a client is the source of its labels, and each client has one rate limit. The roles of a key determine which
endpoints the client may call. The sources of a key determine in whose name it may send events.

**Keys.** A key has 256 random bits, so a fast digest (SHA-256) is safe, and a slow one would only cost time. Keys are
looked up by digest, so the time of a look-up reveals nothing about other keys. Replicas read the file again when it
changes. If it can no longer be read, the last keys stay valid.

**Sources.** The source of an event is part of the event's identity. So that no client can use another's identities, the
client's name is put before the source that it sends:

    source that is sent    without a key    with the key NAME
    S                      http/S           http/NAME/S
    none                   http             http/NAME

A key may list sources that it may use unchanged.
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

from serving.http.origin import Hosts, content_type_problem, sender_problem, to_network
from serving.http.problems import Problem, RequestRefused
from serving.http.schemas import SOURCE, Entry, schema_problem
from wire.envelope import MAX_FIELD_BYTES
from wire.files import FileWatch, atomic_write
from wire.rate_limits import MAX_NAME_CHARS, TokenBuckets
from wire.records import Event

PREFIX: Final = "lifelong_"
"""The prefix of each key, by which secret scanners recognize keys."""

MAX_KEYS: Final = 10_000
CHECK_S: Final = 1.0
"""Interval in seconds at which a replica checks whether the file has changed."""

UNREADABLE: Final = (OSError, UnicodeDecodeError, msgspec.MsgspecError)

log = structlog.get_logger("http")


class Role(StrEnum):
    """The permissions of a key. ADMIN includes all others, and may send labels that replace earlier ones."""

    PREDICT = "predict"
    FEEDBACK = "feedback"
    ADMIN = "admin"


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """One API key.

    `digest` is the hexadecimal SHA-256 of the key's text. `sources` are the sources that its events may use unchanged.
    """

    name: str
    digest: str
    roles: tuple[Role, ...]
    created_ms: int
    sources: tuple[str, ...] = ()

    def may(self, role: Role) -> bool:
        return role in self.roles or Role.ADMIN in self.roles


class BadKeys(ValueError):
    """The file of keys cannot be read, or the requested change cannot be made."""


class KeyFile:
    """The current keys in a file. The constructor raises BadKeys if the file cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._watch = FileWatch(path, check_s=CHECK_S)
        self._keys = self._read()

    def find(self, key: str) -> ApiKey | None:
        """Returns the API key with this text; None if there is none. A revoked key remains valid for up to CHECK_S
        seconds."""
        try:
            keys = self._watch.read_again(self._read)
        except BadKeys as error:
            log.error("keys_not_read", path=str(self._path), error=str(error))
        else:
            self._keys = self._keys if keys is None else keys
        return self._keys.get(compute_digest(key))

    def _read(self) -> dict[str, ApiKey]:
        return {key.digest: key for key in read_keys(self._path)}


def compute_digest(key: str) -> str:
    return sha256(key.encode(errors="replace")).hexdigest()


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """Returns the keys of a file. Raises BadKeys."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[ApiKey, ...])
    except UNREADABLE as error:
        raise BadKeys(
            f"{path}: cannot be read as API keys ({error}); `lifelong keys create NAME` makes a new file"
        ) from None


def create_key(
    path: Path, name: str, roles: Iterable[Role], *, now_ms: int, sources: Sequence[str] = ()
) -> tuple[ApiKey, str]:
    """Adds a key to the file, and makes the file if it does not exist. Returns the key and its text. Raises BadKeys."""
    keys = read_keys(path) if path.exists() else ()
    if any(key.name == name for key in keys):
        raise BadKeys(f"{name!r} has a key already: revoke it first, or choose another name")
    if not name.strip() or len(name) > MAX_NAME_CHARS:
        raise BadKeys(f"a key needs a name of 1 to {MAX_NAME_CHARS} characters: it is the source of its labels")
    if invalid := [source for source in sources if not 0 < len(source.encode()) <= MAX_FIELD_BYTES]:
        raise BadKeys(f"{invalid[0][:40]!r} is not a valid source of events: give 1 to {MAX_FIELD_BYTES} bytes")
    if len(keys) >= MAX_KEYS:
        raise BadKeys(f"{path} has {len(keys)} keys, the maximum: revoke one first")
    text = PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(
        name=name,
        digest=compute_digest(text),
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
        raise BadKeys(f"no key is named {name!r}; the keys are: {', '.join(key.name for key in keys) or 'none'}")
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
    """The client of a request. `name` is the source of its labels, and the name of its token bucket.

    `key` is None if no key is required.
    """

    name: str
    key: ApiKey | None

    def require(self, role: Role) -> None:
        """Raises RequestRefused if the client has no key with this role. This is also the case if keys are not
        required."""
        if self.key is None or not self.key.may(role):
            raise RequestRefused(_forbidden(role))

    def with_source(self, entry: Entry) -> Entry:
        """Returns the event with the client's name in its source; a problem if the source becomes too long."""
        if self.key is None or not isinstance(entry, Event):
            return entry
        # "", or a slash and the source that the client sent.
        suffix = entry.source.removeprefix(SOURCE)
        if suffix and suffix[1:] in self.key.sources:
            return msgspec.structs.replace(entry, source=suffix[1:])
        source = f"{SOURCE}/{_to_segment(self.key.name)}{suffix}"
        if len(source.encode()) > MAX_FIELD_BYTES:
            return schema_problem(f"`source` has more than {MAX_FIELD_BYTES} bytes together with its API key's name")
        return msgspec.structs.replace(entry, source=source)


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """Identifies clients, and limits their rates. It belongs to one event loop.

    - `keys`: None if no key is required
    - `limit`: None if there is no rate limit
    - `hosts`: the accepted values of the header Host, for requests without keys
    """

    keys: KeyFile | None
    limit: TokenBuckets | None
    hosts: Hosts = "loopback"

    def check_sender(self, headers: Mapping[str, str], *, has_body: bool) -> None:
        """If no key is required, raises RequestRefused if a web page of another origin may have sent the HTTP
        request."""
        if self.keys is not None:
            return
        problem = sender_problem(headers, hosts=self.hosts) or (content_type_problem(headers) if has_body else None)
        if problem:
            raise RequestRefused(problem)

    def client(self, address: str, headers: Mapping[str, str], role: Role | None) -> ApiClient:
        """Returns the client of a request. If keys are required, raises RequestRefused unless its key has `role` (None:
        any role)."""
        if self.keys is None:
            return ApiClient(to_network(address), None)
        key = self.keys.find(_sent_key(headers))
        if key is None:
            raise RequestRefused(NO_KEY)
        client = ApiClient(key.name, key)
        if role is not None:
            client.require(role)
        return client

    def take(self, client: ApiClient, num: int) -> None:
        """Takes `num` tokens, one for each event or label, from the client's bucket.

        Raises RequestRefused if the bucket has too few.
        """
        wait_s = self.limit.take(client.name, num, now=time.monotonic()) if self.limit is not None else 0.0
        if wait_s:
            raise RequestRefused(_rate_limited(wait_s))


def _to_segment(name: str) -> str:
    """Returns a key's name as one segment of a source: slashes are escaped, so that no two clients share a source."""
    return name.replace("%", "%25").replace("/", "%2F")


def bearer_token(headers: Mapping[str, str]) -> str | None:
    """Returns the token after `Authorization: Bearer ` (RFC 6750, section 2.1); None if there is none."""
    authorization = headers.get("authorization", "")
    is_bearer = authorization[: len(BEARER)].lower() == BEARER
    return authorization[len(BEARER) :] if is_bearer else None


def _sent_key(headers: Mapping[str, str]) -> str:
    token = bearer_token(headers)
    return headers.get(KEY_HEADER, "") if token is None else token.strip()


def _rate_limited(wait_s: float) -> Problem:
    return Problem(
        status=HTTPStatus.TOO_MANY_REQUESTS,
        code="rate_limited",
        message="this client has exceeded its rate limit: try again later",
        retry_after_s=wait_s,
    )
