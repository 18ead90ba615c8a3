"""The names of clients: no client can pose as many."""

import pytest

from serving.http.clients import client_name, key_names, network_of

KEYS = ("a key of many characters", "another key of many characters")


def test_configured_keys_are_clients_of_their_own() -> None:
    names = key_names(KEYS)
    assert [client_name("203.0.113.7", key, names) for key in KEYS] == ["key 1", "key 2"]


@pytest.mark.parametrize("key", ["", "a guess", "key 1", KEYS[0][:-1], KEYS[0] + " "])
def test_any_other_key_counts_as_none(key: str) -> None:
    """B13: an unknown key made a client of its own."""
    assert client_name("203.0.113.7", key, key_names(KEYS)) == "203.0.113.7"
    assert client_name("203.0.113.7", key, {}) == "203.0.113.7"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_addresses_of_one_network_are_one_client(address: str, network: str) -> None:
    assert network_of(address) == network
