"""The client that a bound applies to: a configured key, or an address; never a name that a client chooses."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv6Address, ip_address
from typing import TypeAlias

KeyNames: TypeAlias = Mapping[bytes, str]
"""The names of configured keys, by the digests of these: the time of a look-up reveals nothing about other keys."""


def key_names(keys: Iterable[str]) -> KeyNames:
    return {_digest(key): f"key {number}" for number, key in enumerate(keys, start=1)}


def client_name(address: str, key: str, names: KeyNames) -> str:
    """Returns the name of a client; an unknown key counts as no key.

    >>> names = key_names(["a key of many characters"])
    >>> [client_name("203.0.113.7", key, names) for key in ("a key of many characters", "a guess")]
    ['key 1', '203.0.113.7']
    """
    name = names.get(_digest(key)) if key and names else None
    return name or network_of(address)


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


def _digest(key: str) -> bytes:
    return sha256(key.encode()).digest()
