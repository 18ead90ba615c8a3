"""Outboxes that send to a fake broker, and an intake from a real one: all are closed in the end."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from serving.kafka.outbox import Outbox, OutboxBounds
from serving.kafka.spool import Spool
from serving.observers import Counts
from tests.serving.kafka.fake_broker import BOUNDS, FakeBroker
from tests.serving.kafka.intake_rig import IntakeRig
from tests.serving.versions import live_versions
from wire.bus import Bus


@pytest.fixture
def fake_broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def make_outbox(fake_broker: FakeBroker, counts: Counts) -> Iterator[Callable[..., Outbox]]:
    outboxes: list[Outbox] = []

    def make_one(bounds: OutboxBounds = BOUNDS, spool: Spool | None = None) -> Outbox:
        open_publisher: Callable[[], Any] = fake_broker.open
        outboxes.append(Outbox(open_publisher, counts, bounds, name="r1", spool=spool))
        return outboxes[-1]

    yield make_one
    for outbox in outboxes:
        outbox.close(5)


@pytest.fixture
def outbox(make_outbox: Callable[..., Outbox]) -> Outbox:
    return make_outbox()


@pytest.fixture
def rig(bus: Bus) -> Iterator[IntakeRig]:
    rig = IntakeRig(bus)
    rig.pipeline.engine.activate(live_versions([1]))
    yield rig
    rig.close()
