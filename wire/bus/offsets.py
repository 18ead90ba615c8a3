"""Which offsets of a subscription may be committed, when the next commit is due, and whether the last one failed.

    open(partition) -> add(offset)... in order of offset -> finish(position)... in any order -> prefix()
    prefix --due: what is not committed yet--> (the client commits) --> ended

An offset may be committed if all records below it are finished: it is the end of the prefix of finished records (a low
watermark). An unfinished record ends the prefix, so that a restart delivers it and all records after it again.
Positions carry the generation of the partition's assignment: a record that is finished after its partition was lost has
no effect. Offsets may have gaps (compaction, transaction markers): if all records are finished, the prefix ends one
past the last.

A commit has the leader epoch of the last record before it: by that the broker notices, when we go on from there, that
its log has been cut before that record.

Rejected: committing the highest finished offset (if we are killed, it loses every record in flight below it), and a
commit for each record (Kafka would write as many records again).
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import structlog
from kafka import TopicPartition  # type: ignore[import-untyped]
from kafka.errors import KafkaError  # type: ignore[import-untyped]
from kafka.structs import OffsetAndMetadata  # type: ignore[import-untyped]

from wire.message import Place

Partition = tuple[str, int]
"""Topic and number of a partition."""

COMMIT_INTERVAL_S = 0.25
"""Records that were finished in this time are processed again after a crash."""

REVOKE_TIMEOUT_MS = 2_000
"""The group waits for us meanwhile. What is not committed in this time others process again."""

log = structlog.get_logger("bus")


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


class Transaction(NamedTuple):
    """What one transaction commits: offsets, the records whose effects it must have, and the member that commits."""

    offsets: Mapping[Any, Any]
    positions: Sequence[Position]
    member: Any


class Commits:
    """Belongs to a subscription, whose `lock` guards `finished`."""

    def __init__(self, finished: FinishedPrefix, lock: threading.Lock) -> None:
        self._finished = finished
        self._lock = lock
        self._committed: dict[Any, int] = {}
        self._epochs: dict[Any, list[tuple[int, int]]] = {}  # by partition: the first offset of each leader epoch
        self._has_failed = False  # whether the last one failed: an outage is logged once, not at every commit
        self._next_s = 0.0
        self._is_under_way = False
        self.num_failed = 0

    def note_epoch(self, partition: Any, offset: int, epoch: int) -> None:
        """Takes note that a record at `offset` was written by the leader `epoch`. The caller holds the lock."""
        epochs = self._epochs.setdefault(partition, [])
        while epochs and epochs[-1][0] >= offset:  # the log was rewound
            epochs.pop()
        if not epochs or epochs[-1][1] != epoch:
            epochs.append((offset, epoch))

    def due(self) -> dict[Any, Any]:
        """Returns what to commit now, where the interval is over and none is under way; `ended` must follow."""
        now_s = time.monotonic()
        if self._is_under_way or now_s < self._next_s:
            return {}
        self._next_s = now_s + COMMIT_INTERVAL_S
        offsets = self.offsets()
        self._is_under_way = bool(offsets)
        return offsets

    def offsets(self) -> dict[Any, Any]:
        """Returns what is finished and not committed."""
        with self._lock:
            return self._missing(self._finished.prefix())

    def through(self, is_done: Callable[[Position], bool]) -> tuple[dict[Any, Any], list[Position]]:
        """Returns what to commit with the effects of the records for which `is_done` is true, and these."""
        with self._lock:
            ends, done = self._finished.through(is_done)
            return self._missing(ends), done

    async def commit_now(self, consumer: Any) -> None:
        """Commits what is finished of partitions that may go, where the broker answers within REVOKE_TIMEOUT_MS.

        The client's `commit_async` has no timeout, and returns before the commit where the coordinator is unknown.
        """
        if not (offsets := self.offsets()):
            return
        try:
            await consumer._coordinator._commit_offsets_sync_async(offsets, timeout_ms=REVOKE_TIMEOUT_MS)
        except KafkaError as error:
            self.ended(offsets, error)
        else:
            self.ended(offsets, None)

    def ended(self, offsets: Mapping[Any, Any], answer: object) -> None:
        """Takes note of the client's answer, which is an exception where the commit failed."""
        self._is_under_way = False
        if isinstance(answer, Exception):  # the next commit includes these offsets
            self.num_failed += 1
            if not self._has_failed:
                log.warning("commits_fail", error=str(answer))
        else:
            with self._lock:
                self._committed |= {partition: offset.offset for partition, offset in offsets.items()}
            if self._has_failed:
                log.info("commits_work_again", failed=self.num_failed)
        self._has_failed = isinstance(answer, Exception)

    def retain(self, partitions: Collection[Any]) -> None:
        """Forgets the partitions that are not ours any more."""
        with self._lock:
            self._committed = {each: end for each, end in self._committed.items() if each in partitions}
            self._epochs = {each: epochs for each, epochs in self._epochs.items() if each in partitions}

    def lag(self, consumer: Any) -> int:
        """Returns how many records of our partitions are not finished, as of the last fetch of each.

        A partition that nothing was delivered of yet counts none.
        """
        with self._lock:
            prefix = self._finished.prefix()
        lag = 0
        for partition in consumer.assignment():
            end = consumer.highwater(partition)
            if end is not None and partition in prefix:
                lag += max(0, end - prefix[partition])
        return lag

    def _missing(self, ends: Mapping[Any, int]) -> dict[Any, Any]:
        return {
            TopicPartition(*partition): OffsetAndMetadata(end, "", self._epoch_before(partition, end))
            for partition, end in ends.items()
            if self._committed.get(partition) != end
        }

    def _epoch_before(self, partition: Any, end: int) -> int:
        """Returns the leader epoch of the last record before `end` (-1: unknown), and forgets those before that."""
        epochs = self._epochs.get(partition, [])
        while len(epochs) > 1 and epochs[1][0] < end:
            epochs.pop(0)
        return epochs[0][1] if epochs and epochs[0][0] < end else -1
