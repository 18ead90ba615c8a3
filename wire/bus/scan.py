"""Reads whole topics, from their start to their current end."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from wire.bus import Bus
from wire.records import TopicRecord

POLL_MS = 200
QUIET_S = 3.0
"""A topic with lag that returns nothing for this long has no more records for us: only gaps are left."""


def every_record(bus: Bus, record_types: Sequence[type[TopicRecord]]) -> Iterator[Any]:
    """Yields all records of the topics of `record_types`, in the order of each partition.

    consumes: the topics; produces: records; waits for: the broker; unblocked by: the end of the topics
    """
    with closing(bus.follow(record_types, {})) as follower:
        last_received_s = time.monotonic()
        while True:
            received = follower.poll(POLL_MS).received
            yield from (each.record for each in received)
            if received:
                last_received_s = time.monotonic()
            elif not follower.lag() or time.monotonic() - last_received_s > QUIET_S:
                return
