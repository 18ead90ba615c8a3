"""What may be committed: for each partition, the offset below which every delivered record is finished.

    open(partition) -> add(position)... in order of offset -> finish(position)... in any order -> prefix()

A record that is not finished holds back everything behind it, so that a restart delivers it again. Positions carry the
generation of the partition's assignment: what is finished after the partition was lost changes nothing.

Offsets may have gaps (compaction, transaction markers): the prefix ends at the first record that is not finished, or
right behind the last one where all are.

Rejected: committing the highest finished offset (loses whatever is still in flight below it when we are killed).
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

Partition = tuple[str, int]
"""Topic and number of a partition."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """One delivered record: its place, and the generation of the assignment under which it was delivered."""

    topic: str
    partition: int
    offset: int
    generation: int


@dataclass(slots=True)
class _Track:
    generation: int
    waiting: OrderedDict[int, bool] = field(default_factory=OrderedDict)  # offset -> finished; the first is not
    end: int = 0  # behind the last record that the prefix passed; 0: it passed none


class FinishedPrefix:
    """Not thread-safe: its owner holds the lock. At most `limit` delivered records wait in each partition."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._generation = 0
        self._tracks: dict[Partition, _Track] = {}

    def open(self, partition: Partition) -> None:
        """Starts to track `partition` under a generation of its own; nothing changes where it is tracked already."""
        if partition not in self._tracks:
            self._tracks[partition] = self._new_track()

    def keep(self, partitions: Iterable[Partition]) -> None:
        """Forgets every partition that is not among `partitions`, with all that waits there."""
        kept = set(partitions)
        self._tracks = {partition: track for partition, track in self._tracks.items() if partition in kept}

    def add(self, partition: Partition, offset: int) -> Position:
        """The record at `offset` was delivered. ValueError where the partition is full.

        An offset below an earlier one says that the log was rewound or made anew: then nothing that waits counts any
        more, and a new generation begins.
        """
        track = self._tracks[partition]
        if offset < track.end or (track.waiting and offset <= next(reversed(track.waiting))):
            track = self._tracks[partition] = self._new_track()
        if len(track.waiting) >= self._limit:
            raise ValueError(f"{partition}: {self._limit} records wait already; finish some before more are delivered")
        track.waiting[offset] = False
        return Position(topic=partition[0], partition=partition[1], offset=offset, generation=track.generation)

    def finish(self, position: Position) -> bool:
        """The effect of the record is there. False where the position is of an older generation, or finished already.

        Amortised O(1): a record is looked at once more when the prefix moves over it.
        """
        track = self._tracks.get((position.topic, position.partition))
        if track is None or track.generation != position.generation or track.waiting.get(position.offset) is not False:
            return False
        track.waiting[position.offset] = True
        while track.waiting:
            offset, is_finished = next(iter(track.waiting.items()))
            if not is_finished:
                break
            del track.waiting[offset]
            track.end = offset + 1
        return True

    def prefix(self) -> dict[Partition, int]:
        """The next offset to read, by partition: all records below it are finished. Untouched partitions are absent."""
        ends = {partition: next(iter(track.waiting), track.end) for partition, track in self._tracks.items()}
        return {partition: end for partition, end in ends.items() if end}

    def room(self, partition: Partition) -> int:
        """How many more records may be delivered from `partition`."""
        return self._limit - len(self._tracks[partition].waiting)

    @property
    def partitions(self) -> list[Partition]:
        """What is tracked now, in order."""
        return sorted(self._tracks)

    @property
    def num_waiting(self) -> int:
        """Delivered records that the prefix has not passed, over all partitions."""
        return sum(len(track.waiting) for track in self._tracks.values())

    def _new_track(self) -> _Track:
        self._generation += 1
        return _Track(self._generation)
