"""Where a consumer group begins that has committed nothing: at the offsets that `bus.begin` stands for.

They are committed before the first member joins, so that all members, and those of a later start, go on from there.
Rejected: the client's `auto_offset_reset="latest"` (a partition that is added later would lose its first records, and
one without traffic would begin anew at each start).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kafka.errors import CommitFailedError  # type: ignore[import-untyped]
from kafka.structs import OffsetAndMetadata  # type: ignore[import-untyped]

from wire.bus.reading import partition_name, partitions_of
from wire.records import TopicRecord
from wire.timestamps import from_rfc3339

if TYPE_CHECKING:
    from wire.bus.bus import Bus


def begin_group(consumer: Any, topics: Iterable[str], offsets: Callable[[], Mapping[str, int]]) -> None:
    """Commits `offsets` (`topic/partition` -> next offset) for the partitions for which the group has none."""
    found = offsets()
    new = [each for each in partitions_of(consumer, topics if found else ()) if consumer.committed(each) is None]
    if not new:
        return
    begin = {each: found[partition_name(each)] for each in new if partition_name(each) in found}
    with suppress(CommitFailedError):  # the group has members: they have done it
        consumer.commit({partition: OffsetAndMetadata(offset, "", -1) for partition, offset in begin.items()})


def beginning(bus: "Bus", begin: str, record_types: Sequence[type[TopicRecord]]) -> dict[str, int]:
    """Returns the offsets that `begin` stands for, by `topic/partition`; none where it is the start of each log."""
    if begin == "earliest":
        return {}
    if begin == "latest":
        return bus.end_offsets(*record_types)
    offsets: dict[str, int] = {}
    for record_type in record_types:
        offsets |= bus.offsets_at(record_type, from_rfc3339(begin))
    return offsets
