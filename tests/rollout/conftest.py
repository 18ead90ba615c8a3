"""The world of a controller, in the store and on the broker of the test."""

import pytest

from tests.rollout.world import World
from wire.bus import Bus
from wire.store import Store


@pytest.fixture
def world(store: Store, bus: Bus) -> World:
    return World(store, bus.publisher())
