"""A record that is not acknowledged is noticed."""

from collections.abc import Callable
from contextlib import closing

import pytest

from evals.load.outbox import LoadOutbox
from services.local.children import free_port
from tests.waiting import eventually
from wire.bus import Bus
from wire.config import BusConfig
from wire.errors import WireError
from wire.records import Event


@pytest.mark.live
def test_a_record_that_arrives_raises_nothing(bus: Bus) -> None:
    publisher = bus.publisher()
    outbox = LoadOutbox(publisher)
    outbox.send(Event(id="e", text="a"))
    publisher.send_all([], 30.0)
    outbox.check()


def fails(check: Callable[[], None]) -> bool:
    try:
        check()
    except WireError:
        return True
    return False


def test_the_first_failure_is_raised_by_each_check() -> None:
    nobody = BusConfig(bootstrap_servers=f"127.0.0.1:{free_port()}")
    with closing(Bus(nobody, client_id="tests")) as bus:
        try:
            outbox = LoadOutbox(bus.publisher())
            outbox.send(Event(id="e", text="a"))
        except WireError:
            return
        eventually(lambda: fails(outbox.check))
        assert fails(outbox.check)
