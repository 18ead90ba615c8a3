"""Who asks, and what it may: by API key where keys are required, by address otherwise; how often, and in whose name.

The source of an event is part of its identity, so a client chooses it only below its own name: what is sent as `S` is
of the source `http/S`, with an API key `http/NAME/S`, and what names none `http` or `http/NAME`. A key may be given
sources that it names as they are.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

import msgspec

from serving.http.clients import network_of
from serving.http.keys import ApiKey, KeyFile, Role
from serving.http.origin import Hosts, problem_of_sender, problem_of_type
from serving.http.problems import Problem, RequestRefused
from serving.http.schemas import SOURCE, Entry, wrong_shape
from wire.envelope import MAX_FIELD_BYTES
from wire.rate_limits import TokenBuckets
from wire.records import Event

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
