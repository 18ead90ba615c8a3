"""Responses of the service, of its HTTP server, and of something else at the same address."""

import pytest

from lifelong.errors import ClientError, NotAuthorized, RequestInvalid, ServiceUnavailable
from lifelong.replies import PREDICT, TRANSIENT_CODES, HttpReply, read_error, read_results
from serving.http import bridge
from serving.http.problems import Problem

SERVICE_S_OWN = b'{"error": {"code": "too_large", "message": "m", "request_id": "r"}}'


def test_the_transient_codes_are_those_of_the_service() -> None:
    problems = [value for value in vars(bridge).values() if isinstance(value, Problem)]
    assert {problem.code for problem in problems} == TRANSIENT_CODES


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (413, SERVICE_S_OWN, RequestInvalid, "too_large"),
        (401, b'{"type": "urn:lifelong:problem:x", "code": "x", "detail": "m"}', NotAuthorized, "x"),
        (502, b"<html>", ServiceUnavailable, "http_502"),
        (302, b"", ClientError, "http_302"),
        (500, b"\xff", ClientError, "http_500"),
        (503, b'{"error": "text"}', ServiceUnavailable, "http_503"),
        (503, b"[" * 100_000, ServiceUnavailable, "http_503"),
    ],
)
def test_a_response_becomes_the_error_of_its_status(
    status: int, body: bytes, kind: type[ClientError], code: str
) -> None:
    error = read_error(HttpReply(status, {"x-request-id": "r"}, body))
    assert (type(error), error.code, error.status, error.request_id) == (kind, code, status, "r")


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"answers": 5}', b'{"answers": [5]}', b'{"answers": []}', b'{"answers": [{"error": 5}]}', b"\xff{"],
)
def test_an_unexpected_body_is_an_error(body: bytes) -> None:
    (error,) = read_results(HttpReply(200, {}, body), PREDICT, 1)
    assert isinstance(error, ClientError)
    assert error.code == "not_understood"
