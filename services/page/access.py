"""Who may read the page, and who may change something by it.

    every request: is it for this page (Host), and from it (Origin)?      else a page of others could ask for us
    reading: on a loopback address everybody; elsewhere, and for texts of others, whoever has the token
    changing: whoever has the token, a few times a second, wrong tokens included

Rejected: a cookie (a browser would send it for pages of others, too), and a password in the address (it would be in the
history and in logs).
"""

import hmac
import time
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus

from starlette.requests import HTTPConnection

from serving.http.access import bearer_in
from serving.http.origin import FOREIGN_HOST, FOREIGN_ORIGIN, is_loopback, network_of, problem_of_sender
from wire.rate_limits import TokenBuckets

ADMIN_PER_S = 1.0
ADMIN_BURST = 10
MAX_CLIENTS = 1_000

DENIALS = {
    FOREIGN_HOST: "this page is asked for by an address of this machine alone",
    FOREIGN_ORIGIN: "a page of another origin asks",
}


class Denied(Exception):
    """The request is refused; the message is for people."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class PageAccess:
    """The rules of one page. `limit` bounds the requests with a token, right or wrong, of each address."""

    token: str
    is_local: bool
    limit: TokenBuckets

    @classmethod
    def of(cls, host: str, token: str, *, is_local: bool = False) -> "PageAccess":
        """Returns the rules of a page that listens on `host`; `is_local` is `page.is_local`."""
        return cls(
            token,
            is_local or is_loopback(host),
            TokenBuckets(rate=ADMIN_PER_S, burst=ADMIN_BURST, max_keys=MAX_CLIENTS),
        )

    def check_sender(self, request: HTTPConnection) -> None:
        """Raises Denied where the request is meant for another host, or comes from a page of another one."""
        problem = problem_of_sender(request.headers, hosts="loopback" if self.is_local else "any")
        if problem:
            raise Denied(problem.status, DENIALS[problem])

    def check_reader(self, request: HTTPConnection) -> None:
        """Raises Denied where the reader needs the token and has it not."""
        self.check_sender(request)
        if not self.is_local:
            self.check_token(request)

    def check_token(self, request: HTTPConnection) -> None:
        """Raises Denied where the token is missing or wrong, or its address has asked too often."""
        self.check_sender(request)
        if self.limit.take(client_of(request), 1, now=time.monotonic()):
            raise Denied(HTTPStatus.TOO_MANY_REQUESTS, "too many requests with a token; wait a moment")
        value = bearer_in(request.headers) or ""
        if not hmac.compare_digest(sha256(value.encode()).digest(), sha256(self.token.encode()).digest()):
            raise Denied(HTTPStatus.UNAUTHORIZED, "the token is missing or wrong; `lifelong up` says where it is")


def client_of(request: HTTPConnection) -> str:
    """Returns the network of the client."""
    return network_of(request.client.host) if request.client else ""
