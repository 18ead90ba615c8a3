"""Fixtures of the Kafka tests: our publisher, and clients that do not use our envelope."""

from collections.abc import Iterator
from typing import Any

import pytest
from kafka import KafkaProducer  # type: ignore[import-untyped]
from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]

from wire.bus import Bus, Publisher
from wire.config import BusConfig
from wire.records import Event, topic_name


@pytest.fixture
def publisher(bus: Bus) -> Publisher:
    return bus.publisher()


@pytest.fixture
def topic(bus_config: BusConfig) -> str:
    return topic_name(bus_config.prefix, Event)


@pytest.fixture
def foreign(bus: Bus, bus_config: BusConfig) -> Iterator[Any]:
    """Opens a producer that does not use our envelope. A refused record does not end it."""
    producer = KafkaProducer(
        bootstrap_servers=bus_config.bootstrap_servers, max_request_size=16 << 20, enable_idempotence=False
    )
    yield producer
    producer.close()


@pytest.fixture
def admin(bus_config: BusConfig) -> Iterator[Any]:
    client = KafkaAdminClient(bootstrap_servers=bus_config.bootstrap_servers)
    yield client
    client.close()
