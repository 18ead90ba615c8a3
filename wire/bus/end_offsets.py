"""The end offsets of partitions, the offset that the next record of each will get, and the offsets at a time.

There are two sources, and the larger value is right. The ListOffsets request is exact on Apache Kafka, but Tansu 0.6
answers with the start of the last batch plus one. The high watermark in every fetch is right on both, but known only
for partitions that were fetched, and as old as the last fetch.
"""

import time
from collections.abc import Sequence
from typing import Any

from wire.bus.fetched import raw_polls
from wire.bus.topic_logs import TopicLogs


def fetched_ends(consumer: Any, partitions: Sequence[Any], *, timeout_s: float) -> dict[Any, int]:
    """Returns the end offsets of `partitions`. Uses up `consumer`: it fetches from each, for at most `timeout_s`."""
    poll = raw_polls(consumer, TopicLogs(consumer, known={}))
    consumer.assign(partitions)
    for partition, offset in consumer.end_offsets(partitions).items():
        consumer.seek(partition, offset)
    deadline_s = time.monotonic() + timeout_s
    while any(consumer.highwater(partition) is None for partition in partitions) and time.monotonic() < deadline_s:
        poll(100)
    ends: dict[Any, int] = consumer.end_offsets(partitions)
    for partition in partitions:
        high_watermark = consumer.highwater(partition)
        if high_watermark is not None:
            ends[partition] = max(high_watermark, ends[partition])
    return ends


def offsets_at(consumer: Any, partitions: Sequence[Any], time_ms: int, *, timeout_s: float) -> dict[Any, int]:
    """Returns the offset of the first record logged at `time_ms` or later; the end of partitions that have none.

    Of these Kafka says that it has none, and Tansu answers with the first offset and a time that is too early. Uses up
    `consumer` like `fetched_ends`.
    """
    found = consumer.offsets_for_times(dict.fromkeys(partitions, max(time_ms, 0)))
    offsets = {each: at.offset for each, at in found.items() if at is not None and at.timestamp >= time_ms}
    missing = [each for each in partitions if each not in offsets]
    return offsets | (fetched_ends(consumer, missing, timeout_s=timeout_s) if missing else {})
