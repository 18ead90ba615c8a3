"""Who asks, and what it may: by API key where keys are required, by address otherwise; and how often."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from serving.http.clients import network_of
from serving.http.keys import ApiKey, KeyFile, Role
from serving.http.problems import Problem, RequestRefused
from wire.token_bucket import TokenBuckets

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """`keys` is None where no key is required, `limit` where clients are not rate limited. One event loop uses it."""

    keys: KeyFile | None
    limit: TokenBuckets | None

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
