"""Reads HTTP responses: a JSON object for each event or label, or an error in its place. No network I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import msgspec

from lifelong.errors import ClientError, NotAuthorized, RequestInvalid, ServiceUnavailable

TRANSIENT_STATUSES: Final = (408, 429, 502, 503, 504)

TRANSIENT_CODES: Final = frozenset(
    (
        "bus_full",
        "deadline_exceeded",
        "model_unavailable",
        "no_weights",
        "not_acknowledged",
        "queue_full",
        "stopping",
        "timeout",
    )
)
"""The codes of temporary problems with a single event of a request. Such a problem has no HTTP status of its own."""

ERRORS: Final[Mapping[int, type[ClientError]]] = {
    **dict.fromkeys(TRANSIENT_STATUSES, ServiceUnavailable),
    **dict.fromkeys((400, 413, 422), RequestInvalid),
    **dict.fromkeys((401, 403), NotAuthorized),
}

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""The decoder's errors for a body that the service did not send."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """A path, with the field of the request that lists the entries and the field of the response with the results."""

    path: str
    entries: str
    results: str


PREDICT: Final = Endpoint(path="/v1/predict", entries="events", results="answers")
FEEDBACK: Final = Endpoint(path="/v1/feedback", entries="labels", results="labels")


@dataclass(frozen=True, slots=True)
class HttpReply:
    """An HTTP response. The names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Result: TypeAlias = dict[str, Any] | ClientError
"""The JSON object for an entry, or the error in its place."""


class _Problem(msgspec.Struct, frozen=True):
    """An error in a response of the service."""

    code: str
    message: str
    request_id: str = ""


class _Refusal(msgspec.Struct, frozen=True):
    """The body of a refused request: problem details (RFC 9457), or the form `error` if it was refused early."""

    code: str = ""
    detail: str = ""
    request_id: str = ""
    error: _Problem | None = None


_REFUSALS = msgspec.json.Decoder(_Refusal)
_BODIES = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RESULTS = msgspec.json.Decoder(list[dict[str, Any]])


def read_results(reply: HttpReply | ClientError, endpoint: Endpoint, num: int) -> list[Result]:
    """Returns `num` results. If the whole request failed, every result is its error."""
    if isinstance(reply, ClientError):
        return [reply] * num
    if reply.status != HTTPStatus.OK:
        return [read_error(reply)] * num
    try:
        results = _RESULTS.decode(_BODIES.decode(reply.body).get(endpoint.results, b"[]"))
        if len(results) != num:
            return [not_understood(f"{len(results)} results for {num} entries")] * num
        return [_read_result(result) for result in results]
    except UNREADABLE as error:
        return [not_understood(str(error))] * num


def read_error(reply: HttpReply) -> ClientError:
    """Returns the error in a response with another status than 200, from the service or from a proxy in front of it."""
    status = reply.status
    problem = _read_problem(reply.body)
    if problem is None:
        message = "the response is not from the service: is there a proxy in front of it?"
        problem = _Problem(code=f"http_{status}", message=message)
    return ERRORS.get(status, ClientError)(
        problem.message,
        code=problem.code,
        status=status,
        request_id=problem.request_id or reply.headers.get("x-request-id", ""),
        retry_after_s=parse_retry_after(reply.headers.get("retry-after", ""), datetime.now(UTC)),
    )


def _read_problem(body: bytes) -> _Problem | None:
    """Returns the problem in a body, or None if there is none."""
    try:
        refusal = _REFUSALS.decode(body)
    except UNREADABLE:
        return None
    if refusal.code:
        return _Problem(code=refusal.code, message=refusal.detail, request_id=refusal.request_id)
    return refusal.error


def parse_retry_after(retry_after: str, now: datetime) -> float:
    """Returns the seconds in a `Retry-After` header (RFC 9110, section 10.2.3), or 0 if it cannot be parsed.

    >>> now = datetime(2026, 11, 28, 10, 0, tzinfo=UTC)
    >>> [parse_retry_after(text, now) for text in ("7", "Sat, 28 Nov 2026 10:00:30 GMT", "soon", "")]
    [7.0, 30.0, 0.0, 0.0]
    """
    if retry_after.isascii() and retry_after.isdecimal():
        # Nine digits are 30 years: more would only overflow somewhere.
        return float(retry_after[:9])
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - now).total_seconds())
    except (TypeError, ValueError):
        return 0.0


def _read_result(result: dict[str, Any]) -> Result:
    if "error" not in result:
        return result
    problem = msgspec.convert(result["error"], _Problem)
    error_class = ServiceUnavailable if problem.code in TRANSIENT_CODES else RequestInvalid
    return error_class(problem.message, code=problem.code)


def not_understood(message: str) -> ClientError:
    """Returns the error for a response of an unexpected form."""
    return ClientError(f"the response is not from this service: {message}", code="not_understood")
