"""Tests who may read the page, and who may change something."""

from http import HTTPStatus

import pytest
from starlette.requests import HTTPConnection

from services.page.app import ADMIN_BURST, Denied, PageAccess

TOKEN = "a token for the tests"


def request(client: str = "127.0.0.1", **headers: str) -> HTTPConnection:
    given = {"host": "127.0.0.1:8090", **headers}
    raw = [(name.encode(), value.encode()) for name, value in given.items()]
    return HTTPConnection({"type": "http", "headers": raw, "client": (client, 1)})


def request_status(check: object, asked: HTTPConnection) -> int:
    assert callable(check)
    try:
        check(asked)
    except Denied as error:
        return int(error.status)
    return 200


@pytest.mark.parametrize("host", ["127.0.0.1:8090", "localhost:8090", "[::1]:8090"])
def test_everybody_on_this_machine_may_read(host: str) -> None:
    assert request_status(PageAccess.of("127.0.0.1", TOKEN).check_reader, request(host=host)) == 200


def test_everybody_may_read_a_page_whose_port_only_this_machine_reaches() -> None:
    access = PageAccess.of("0.0.0.0", TOKEN, is_local=True)
    assert request_status(access.check_reader, request(host="localhost:8090")) == 200
    assert request_status(access.check_reader, request(host="evil.example")) == HTTPStatus.MISDIRECTED_REQUEST
    assert request_status(access.check_token, request(host="localhost:8090")) == HTTPStatus.UNAUTHORIZED


def test_a_name_of_another_machine_or_page_may_not() -> None:
    access = PageAccess.of("127.0.0.1", TOKEN)
    assert request_status(access.check_reader, request(host="evil.example")) == HTTPStatus.MISDIRECTED_REQUEST
    assert request_status(access.check_reader, request(origin="http://evil.example")) == HTTPStatus.FORBIDDEN
    assert request_status(access.check_reader, request(origin="null")) == HTTPStatus.FORBIDDEN
    assert request_status(access.check_reader, request(origin="http://127.0.0.1:8090")) == 200


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", "Basic a", f"{TOKEN}", f"Bearer {TOKEN} "])
def test_only_the_token_opens(given: str) -> None:
    access = PageAccess.of("127.0.0.1", TOKEN)
    assert request_status(access.check_token, request(authorization=given)) == HTTPStatus.UNAUTHORIZED
    assert request_status(access.check_token, request(authorization=f"Bearer {TOKEN}")) == 200


def test_beyond_this_machine_reading_needs_the_token() -> None:
    access = PageAccess.of("0.0.0.0", TOKEN)
    assert request_status(access.check_reader, request(host="example.org")) == HTTPStatus.UNAUTHORIZED
    assert request_status(access.check_reader, request(host="example.org", authorization=f"Bearer {TOKEN}")) == 200


def test_an_address_that_tries_tokens_waits_and_no_other_does() -> None:
    access = PageAccess.of("127.0.0.1", TOKEN)
    found = [request_status(access.check_token, request("10.0.0.1", authorization="Bearer no")) for _ in range(30)]
    assert found[:ADMIN_BURST] == [HTTPStatus.UNAUTHORIZED] * ADMIN_BURST
    assert found[-1] == HTTPStatus.TOO_MANY_REQUESTS
    right = {"authorization": f"Bearer {TOKEN}"}
    assert request_status(access.check_token, request("10.0.0.1", **right)) == HTTPStatus.TOO_MANY_REQUESTS
    assert request_status(access.check_token, request("10.0.0.2", **right)) == 200
