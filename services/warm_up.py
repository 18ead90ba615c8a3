"""Warms a broker of ours up: the first requests of a Java process take many times as long as later ones.

    topics of their own, behind WARM --> records, one request each --> read by a group, committed --> removed again

It runs beside the start of the other programs, which takes longer. The broker has then compiled what it does for each
record, and has made the topic of the offsets and its first producer id.

Rejected: records in the topics of the service (somebody would have to tell them from events).
"""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Final

import structlog

from wire.bus import Bus, Subscription
from wire.config import BusConfig
from wire.errors import WireError
from wire.records import Event

WARM: Final = "warm-up."
"""What the prefix of these topics ends with."""

NUM_REQUESTS: Final = 300
"""Records that are sent and read one by one: a method is compiled by Java after some hundred calls."""

LONGEST_S: Final = 10.0

log = structlog.get_logger("warm_up")


def warm_broker(config: BusConfig, *, is_over: Callable[[], bool]) -> None:
    """Lets the broker carry records of nobody, for LONGEST_S at most, or until `is_over`. An error ends it early."""
    own = replace(config, prefix=f"{config.prefix}{WARM}", partitions=1)
    end_s = time.monotonic() + LONGEST_S
    try:
        with closing(Bus(own, client_id="warm-up")) as bus:
            bus.create_topics()
            try:
                _carry(bus, is_over=lambda: is_over() or time.monotonic() > end_s)
            finally:
                bus.remove_topics(WARM)
    except WireError as error:
        log.warning("not_warmed", error=str(error))


def _carry(bus: Bus, *, is_over: Callable[[], bool]) -> None:
    with closing(bus.publisher()) as publisher, closing(bus.subscribe(Event, WARM)) as subscription:
        for number in range(NUM_REQUESTS):
            if is_over():
                return
            publisher.send_all([Event(id=str(number), text="warm")], LONGEST_S)
            _finish(subscription)


def _finish(subscription: Subscription[Event]) -> None:
    """Reads what has come, and lets it be committed."""
    for received in subscription.poll(5).received:
        subscription.finish(received.position)
