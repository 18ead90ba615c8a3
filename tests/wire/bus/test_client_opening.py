"""The errors of a client that cannot be opened."""

import threading

import pytest

from services.local.children import free_port
from wire.bus.client import Clients
from wire.config import BusConfig
from wire.errors import BusRefused, BusUnavailable


def test_an_option_that_is_ours_is_refused_with_the_reason() -> None:
    with pytest.raises(BusRefused, match=r"bus\.client\.transactional_id.*it names the replica"):
        Clients(BusConfig(client={"transactional_id": "mine"}), "test")


def test_where_no_broker_answers_the_address_is_said_and_no_thread_is_left() -> None:
    before = threading.active_count()
    address = f"127.0.0.1:{free_port()}"
    clients = Clients(BusConfig(bootstrap_servers=address, client={"request_timeout_ms": 300}), "test")
    with pytest.raises(BusUnavailable, match=address):
        clients.admin(300)
    with pytest.raises(BusUnavailable, match=address):
        clients.producer()
    with pytest.raises(BusUnavailable, match=address):
        clients.consumer(group_id=None, fetch_max_wait_ms=100)
    assert threading.active_count() == before
