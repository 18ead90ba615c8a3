"""What a response says: a JSON object for each event or label, or the error in its place. No network here."""

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
"""Problems of an event among others, which has no status, after which the same event may be answered."""

ERRORS: Final[Mapping[int, type[ClientError]]] = {
    **dict.fromkeys(TRANSIENT_STATUSES, ServiceUnavailable),
    **dict.fromkeys((400, 413, 422), RequestInvalid),
    **dict.fromkeys((401, 403), NotAuthorized),
}

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Errors of the decoder for what a service of ours does not say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """Where entries are sent, and what the lists of entries and of results are called."""

    path: str
    entries: str
    results: str


PREDICT: Final = Endpoint(path="/v1/predict", entries="events", results="answers")
FEEDBACK: Final = Endpoint(path="/v1/feedback", entries="labels", results="labels")


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A response; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Result: TypeAlias = dict[str, Any] | ClientError
"""The JSON object of an entry, or why there is none."""


class _Problem(msgspec.Struct, frozen=True):
    """A problem as the service tells it."""

    code: str
    message: str
    request_id: str = ""


class _Refusal(msgspec.Struct, frozen=True):
    """The body of a refused request: in the form of RFC 9457, or, where it was cut off early, in our own."""

    code: str = ""
    detail: str = ""
    request_id: str = ""
    error: _Problem | None = None


_REFUSALS = msgspec.json.Decoder(_Refusal)
_BODIES = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RESULTS = msgspec.json.Decoder(list[dict[str, Any]])


def read_results(reply: HttpReply | ClientError, endpoint: Endpoint, num: int) -> list[Result]:
    """Returns `num` results; a problem of the whole request is that of each."""
    if isinstance(reply, ClientError):
        return [reply] * num
    if reply.status != HTTPStatus.OK:
        return [error_of(reply)] * num
    try:
        results = _RESULTS.decode(_BODIES.decode(reply.body).get(endpoint.results, b"[]"))
        if len(results) != num:
            return [not_understood(f"{len(results)} results for {num} entries")] * num
        return [_result_of(result) for result in results]
    except UNREADABLE as error:
        return [not_understood(str(error))] * num


def error_of(reply: HttpReply) -> ClientError:
    """Returns the error that a response tells, be it of the service or of a proxy before it."""
    status = reply.status
    problem = _problem_of(reply.body)
    if problem is None:
        message = "the response is not one of the service: does a proxy stand before it?"
        problem = _Problem(code=f"http_{status}", message=message)
    return ERRORS.get(status, ClientError)(
        problem.message,
        code=problem.code,
        status=status,
        request_id=problem.request_id or reply.headers.get("x-request-id", ""),
        retry_after_s=seconds_of(reply.headers.get("retry-after", ""), datetime.now(UTC)),
    )


def _problem_of(body: bytes) -> _Problem | None:
    """Returns the problem that a body tells; None where it tells none."""
    try:
        refusal = _REFUSALS.decode(body)
    except UNREADABLE:
        return None
    if refusal.code:
        return _Problem(code=refusal.code, message=refusal.detail, request_id=refusal.request_id)
    return refusal.error


def seconds_of(retry_after: str, now: datetime) -> float:
    """Returns the seconds that a `Retry-After` asks for (RFC 9110, section 10.2.3); 0 where it cannot be read.

    >>> now = datetime(2026, 11, 28, 10, 0, tzinfo=UTC)
    >>> [seconds_of(text, now) for text in ("7", "Sat, 28 Nov 2026 10:00:30 GMT", "soon", "")]
    [7.0, 30.0, 0.0, 0.0]
    """
    if retry_after.isascii() and retry_after.isdecimal():
        return float(retry_after[:9])
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - now).total_seconds())
    except (TypeError, ValueError):
        return 0.0


def _result_of(result: dict[str, Any]) -> Result:
    if "error" not in result:
        return result
    problem = msgspec.convert(result["error"], _Problem)
    kind = ServiceUnavailable if problem.code in TRANSIENT_CODES else RequestInvalid
    return kind(problem.message, code=problem.code)


def not_understood(message: str) -> ClientError:
    """Returns the error of a response that has another form than the service's."""
    return ClientError(f"the response is not one of this service: {message}", code="not_understood")
