"""The offsets that may be committed: for each partition, the end of the prefix of finished records (a low watermark).

    open(partition) -> add(offset)... in order of offset -> finish(position)... in any order -> prefix()

An unfinished record ends the prefix, so that a restart delivers it and all records after it again. Positions carry the
generation of the partition's assignment: a record that is finished after its partition was lost has no effect.

Offsets may have gaps (compaction, transaction markers). The prefix ends at the first unfinished record, or one past the
last record where all are finished.

Rejected: committing the highest finished offset (if we are killed, it loses every record in flight below it).
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from wire.message import Place

Partition = tuple[str, int]
"""Topic and number of a partition."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """One delivered record: its place, and the generation of the assignment under which it was delivered."""

    topic: str
    partition: int
    offset: int
    generation: int

    @property
    def place(self) -> Place:
        return Place(topic=self.topic, partition=self.partition, offset=self.offset)


@dataclass(slots=True)
class _Track:
    generation: int
    waiting: OrderedDict[int, bool] = field(default_factory=OrderedDict)  # offset -> finished?; the first is not
    end: int = 0  # the offset after the last record of the prefix; 0: the prefix is empty


class FinishedPrefix:
    """The finished prefix of each partition, in which at most `limit` delivered records may wait.

    Not thread-safe: the owner calls it under a lock.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._generation = 0
        self._tracks: dict[Partition, _Track] = {}

    def open(self, partition: Partition) -> None:
        """Starts to track `partition` under a new generation. Idempotent: a tracked partition is left as it is."""
        if partition not in self._tracks:
            self._tracks[partition] = self._new_track()

    def retain(self, partitions: Iterable[Partition]) -> None:
        """Drops every partition that is not in `partitions`, with the records that wait there."""
        retained = set(partitions)
        self._tracks = {partition: track for partition, track in self._tracks.items() if partition in retained}

    def add(self, partition: Partition, offset: int) -> Position:
        """Notes that the record at `offset` was delivered. Raises ValueError where the partition is full.

        An offset that is not above the earlier ones means that the log was rewound or recreated. Then the records that
        wait are dropped, and a new generation begins.
        """
        track = self._tracks[partition]
        if offset < track.end or (track.waiting and offset <= next(reversed(track.waiting))):
            track = self._tracks[partition] = self._new_track()
        if len(track.waiting) >= self._limit:
            raise ValueError(f"{partition}: {self._limit} records wait already; finish some before more are delivered")
        track.waiting[offset] = False
        return Position(topic=partition[0], partition=partition[1], offset=offset, generation=track.generation)

    def finish(self, position: Position) -> bool:
        """Notes that the effect of the record is done; False where its generation is over or it was finished before.

        Takes amortised constant time: each record is visited once more, when the prefix passes it.
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
        """Returns the offset to commit by partition: all records below it are finished. Empty prefixes are absent."""
        ends = {partition: next(iter(track.waiting), track.end) for partition, track in self._tracks.items()}
        return {partition: end for partition, end in ends.items() if end}

    def through(self, is_done: Callable[[Position], bool]) -> tuple[dict[Partition, int], list[Position]]:
        """Returns the prefix as it would be if the records for which `is_done` is true were finished, and these."""
        ends = dict[Partition, int]()
        done = list[Position]()
        for (topic, number), track in self._tracks.items():
            end = track.end
            for offset, is_finished in track.waiting.items():
                position = Position(topic=topic, partition=number, offset=offset, generation=track.generation)
                if not (is_finished or is_done(position)):
                    break
                if not is_finished:
                    done.append(position)
                end = offset + 1
            if end:
                ends[topic, number] = end
        return ends, done

    def tracks(self, position: Position) -> bool:
        """Whether the record at `position` still counts: its partition was not lost since it was delivered."""
        track = self._tracks.get((position.topic, position.partition))
        return track is not None and track.generation == position.generation

    def room(self, partition: Partition) -> int:
        """Returns how many more records of `partition` may be delivered."""
        return self._limit - len(self._tracks[partition].waiting)

    @property
    def partitions(self) -> list[Partition]:
        """The tracked partitions, sorted."""
        return sorted(self._tracks)

    def _new_track(self) -> _Track:
        self._generation += 1
        return _Track(self._generation)
