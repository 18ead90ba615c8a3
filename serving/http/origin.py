"""Where a request comes from: the network of its address, and whether a page of others sent it.

    request --headers--> problem_of_sender --> Problem, or None        (HTTP where no API key is required, and the page)
    address --network_of--> the client that a bound applies to, if no API key names one

A browser sends requests for every page that is open in it, also to a service on the reader's own machine. It says for
which page (Origin), under which name it found us (Host), and asks us first if the content type is none that a form can
send. So three headers tell such a request apart from one that a program of the user sends. A page that finds us by a
name of its own (DNS rebinding) has an Origin that equals the Host, and is told by the name: a name of ours is an
address, or loopback.
"""

from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from serving.http.problems import Problem

Hosts: TypeAlias = Literal["loopback", "addresses", "any"]
"""Which hosts a request may be meant for: those of this machine alone; where it has an Origin, addresses; any."""

CONTENT_TYPES: Final = (
    "application/json",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "application/octet-stream",
    "",
)
"""The types of bodies that no form can send. With no type at all, a browser says its Origin."""

FOREIGN_HOST: Final = Problem(
    status=HTTPStatus.MISDIRECTED_REQUEST,
    code="foreign_host",
    message="without API keys this is asked for by an address of this machine alone: see serving.http_host",
)
FOREIGN_ORIGIN: Final = Problem(
    status=HTTPStatus.FORBIDDEN,
    code="foreign_origin",
    message="a page of another origin asks; without API keys none may: see serving.keys_file",
)
WRONG_TYPE: Final = Problem(
    status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    code="content_type",
    message="send `content-type: application/json` (curl: --json in place of -d)",
)


def problem_of_sender(headers: Mapping[str, str], *, hosts: Hosts) -> Problem | None:
    """Returns why a request is not meant for this service, or comes from a page of others; None where it is neither."""
    host = headers.get("host", "")
    if hosts == "loopback" and not is_loopback(_name_of(host)):
        return FOREIGN_HOST
    origin = headers.get("origin")
    if origin is None:
        return None
    is_named = hosts == "addresses" and not is_address(_name_of(host))
    return FOREIGN_ORIGIN if is_named or _place_of(origin) != host else None


def problem_of_type(headers: Mapping[str, str]) -> Problem | None:
    """Returns what is wrong with the content type of a body, which a form could send; None where nothing is."""
    return None if media_type(headers) in CONTENT_TYPES else WRONG_TYPE


def media_type(headers: Mapping[str, str]) -> str:
    """Returns the type of the body, without its parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def is_loopback(host: str) -> bool:
    """Whether a host names this machine alone.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    return host.lower() == "localhost" or (_is_ip(host) and ip_address(host).is_loopback)


def is_address(host: str) -> bool:
    """Whether a host is an address, or names this machine: no page of others is found under either.

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


def _place_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # brackets that are no address
        return ""


def _name_of(host: str) -> str:
    """Returns a Host without its port; "" for one that is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


@lru_cache(maxsize=10_000)
def network_of(address: str) -> str:
    """Returns the network of one client: in IPv4 the address itself, in IPv6 the /64, since one client has all of it.

    >>> network_of("203.0.113.7"), network_of("2001:db8:1:2:3::4"), network_of("::ffff:203.0.113.7")
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
