"""Tests that the warm-up of a broker leaves no topics, and that a broker that does not answer delays nothing."""

import time
from contextlib import closing

import pytest

from services.local.servers import WARM, warm_broker
from wire.bus import Bus
from wire.bus.client_errors import map_errors
from wire.config import BusConfig
from wire.records import Event

pytestmark = pytest.mark.live


def list_topics(config: BusConfig) -> set[str]:
    with closing(Bus(config, "test")) as bus, bus._admin() as admin, map_errors(config.bootstrap_servers):
        return {name for name in admin.list_topics() if name.startswith(config.prefix)}


def test_nothing_is_left_of_it(bus: Bus, bus_config: BusConfig) -> None:
    before = list_topics(bus_config)
    warm_broker(bus_config, is_over=lambda: False)
    assert not {name for name in list_topics(bus_config) - before if not name.startswith(f"{bus_config.prefix}{WARM}")}
    assert set(bus.end_offsets(Event).values()) == {0}


def test_it_ends_when_the_service_is_ready(bus: Bus, bus_config: BusConfig) -> None:
    asked: list[float] = []

    def is_over() -> bool:
        asked.append(time.monotonic())
        return True

    warm_broker(bus_config, is_over=is_over)
    assert len(asked) == 1


def test_a_broker_that_is_away_is_left_alone() -> None:
    warm_broker(BusConfig(bootstrap_servers="127.0.0.1:1", client={"request_timeout_ms": 200}), is_over=lambda: False)
