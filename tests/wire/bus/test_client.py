"""Tests that a client backs off if it cannot reach a broker, also if a proxy accepts its connections."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest

from wire.bus.client import CONNECTING_MS, KafkaClient, ProducerClient

WITHIN_S = 2.0
"""Duration of a test: a back-off that doubles from 50 ms allows six attempts in it, no back-off hundreds."""


class Door:
    """A server that closes each connection at once, or never answers. `num` counts the connections."""

    def __init__(self, *, hangs_up: bool) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._hangs_up = hangs_up
        self._held: list[socket.socket] = []
        self.num = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        for each in self._held:
            each.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.num += 1
            if self._hangs_up:
                connection.close()
            else:
                self._held.append(connection)


Opens: TypeAlias = Callable[[bool], Door]
Connects: TypeAlias = Callable[[type[KafkaClient], Door], tuple[KafkaClient, object]]


@pytest.fixture
def door() -> Iterator[Opens]:
    opened: list[Door] = []

    def open_one(hangs_up: bool) -> Door:
        opened.append(Door(hangs_up=hangs_up))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


@pytest.fixture
def connect() -> Iterator[Connects]:
    clients: list[KafkaClient] = []

    def connect_to(kind: type[KafkaClient], door: Door) -> tuple[KafkaClient, object]:
        backoff = {"reconnect_backoff_ms": 50, "reconnect_backoff_max_ms": 1_000}
        clients.append(kind(bootstrap_servers=[f"127.0.0.1:{door.port}"], **backoff))
        return clients[-1], clients[-1].cluster.bootstrap_brokers()[0].node_id

    yield connect_to
    for each in clients:
        each.close()


def test_who_is_hung_up_on_waits_longer_each_time(door: Opens, connect: Connects) -> None:
    """B20: behind a proxy whose broker was away, each replica took a core to connect."""
    there = door(True)
    client, node = connect(KafkaClient, there)
    end_s = time.monotonic() + WITHIN_S
    while time.monotonic() < end_s:
        client.maybe_connect(node)
        client.poll(timeout_ms=10)
    assert there.num in range(2, 11)


def test_a_producer_waits_as_long_as_the_pause_lasts(door: Opens, connect: Connects) -> None:
    there = door(True)
    client, node = connect(ProducerClient, there)
    end_s = time.monotonic() + WITHIN_S
    rests: list[float] = []
    while time.monotonic() < end_s:
        client.maybe_connect(node)
        rests.append(client.connection_delay(node))
        client.poll(timeout_ms=rests[-1])
    assert max(rests) > 200.0, "milliseconds"
    assert len(rests) <= 60, "it does not go round and round"


def test_a_producer_rests_while_it_connects(door: Opens, connect: Connects) -> None:
    client, node = connect(ProducerClient, door(False))
    client.maybe_connect(node)
    client.poll(timeout_ms=50)
    assert client.connection_delay(node) == CONNECTING_MS
