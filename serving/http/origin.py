"""Protection from requests by web pages of other origins (CSRF, DNS rebinding), and the network of a client's address.

    request --headers--> sender_problem --> Problem, or None      (HTTP without API keys, and the status page)
    address --to_network--> the client to which a limit applies, if no API key names one

A browser sends requests for every open page, even to a service on the user's own machine. Three headers show that a
page has sent a request:

- Origin names the page.
- Host has the name by which the browser found this service. With DNS rebinding, the page's own name leads to this
  service, so Origin equals Host. But that name is neither an address nor loopback.
- The content type. If a page wants to send a type that no HTML form can send, the browser first asks this service for
  permission (preflight).
"""

from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from serving.http.problems import Problem

Hosts: TypeAlias = Literal["loopback", "addresses", "any"]
"""Which values of Host are accepted: only loopback; only addresses, if the request has an Origin; or any."""

CONTENT_TYPES: Final = (
    "application/json",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "application/octet-stream",
    "",
)
"""Content types that no HTML form can send. A request without a type is allowed, because a browser then sends an
Origin."""

FOREIGN_HOST: Final = Problem(
    status=HTTPStatus.MISDIRECTED_REQUEST,
    code="foreign_host",
    message="without API keys, this service answers only at a loopback address of its machine: see serving.http_host",
)
FOREIGN_ORIGIN: Final = Problem(
    status=HTTPStatus.FORBIDDEN,
    code="foreign_origin",
    message="a page of another origin sent this; it needs an API key: see serving.keys_file",
)
WRONG_TYPE: Final = Problem(
    status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    code="content_type",
    message="send `content-type: application/json` (curl: --json in place of -d)",
)


def sender_problem(headers: Mapping[str, str], *, hosts: Hosts) -> Problem | None:
    """Returns the problem of a request for a foreign host, or from a foreign page; None if it is neither."""
    host = headers.get("host", "")
    if hosts == "loopback" and not is_loopback(_host_name(host)):
        return FOREIGN_HOST
    origin = headers.get("origin")
    if origin is None:
        return None
    is_rebound = hosts == "addresses" and not is_address(_host_name(host))
    return FOREIGN_ORIGIN if is_rebound or _origin_host(origin) != host else None


def content_type_problem(headers: Mapping[str, str]) -> Problem | None:
    """Returns the problem of a body whose content type a form could send; None if no form could send it."""
    return None if media_type(headers) in CONTENT_TYPES else WRONG_TYPE


def media_type(headers: Mapping[str, str]) -> str:
    """Returns the content type of the body, without its parameters, in lower case."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def is_loopback(host: str) -> bool:
    """Whether a host is a loopback address or `localhost`.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    return host.lower() == "localhost" or (_is_ip(host) and ip_address(host).is_loopback)


def is_address(host: str) -> bool:
    """Whether a host is an address or `localhost`. A foreign page cannot use either as its own name.

    >>> [is_address(host) for host in ("192.0.2.7", "localhost", "example.org")]
    [True, True, False]
    """
    return is_loopback(host) or _is_ip(host)


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _origin_host(origin: str) -> str:
    """Returns the host and port of an Origin; "" if it is malformed."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _host_name(host: str) -> str:
    """Returns a Host without its port; "" if it is malformed."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


@lru_cache(maxsize=10_000)
def to_network(address: str) -> str:
    """Returns the network that counts as one client: in IPv4 the address, in IPv6 its /64, which one client owns.

    >>> to_network("203.0.113.7"), to_network("2001:db8:1:2:3::4"), to_network("::ffff:203.0.113.7")
    ('203.0.113.7', '2001:db8:1:2::/64', '203.0.113.7')
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
