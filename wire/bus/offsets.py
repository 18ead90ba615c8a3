"""Tracks which offsets of a subscription may be committed, when a commit is due, and whether the last commit failed.

    open(partition) -> add(offset)... in order of offset -> finish(position)... in any order -> prefix()
    prefix --begin_commit: the uncommitted offsets--> (the client commits) --> end_commit

An offset may be committed if all records below it are finished. The finished records at the beginning are the prefix,
and its end is a low watermark. The first unfinished record ends the prefix, so after a restart this record and all
records after it are delivered again. A position has the generation of its partition's assignment: if a record is
finished after its partition was lost, this has no effect. Offsets may have gaps (compaction, transaction markers): if
all records are finished, the prefix ends one past the last record.

A committed offset has the leader epoch of the last record before it. When we resume at this offset, the broker compares
the epoch with its log. So it notices if that record was lost in a truncation.

Rejected: committing the highest finished offset (after a kill, every record in flight below it is lost), and a commit
for each record (Kafka would write one more record for each of ours).
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
"""Time between commits. Records that were finished within this time are processed again after a crash."""

REVOKE_TIMEOUT_MS = 2_000
"""Time for a commit during a rebalance, for which the whole group waits.

If the commit takes longer, other members process its records again.
"""

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
    # Offset -> whether the record is finished, from the first unfinished record on.
    waiting: OrderedDict[int, bool] = field(default_factory=OrderedDict)
    # The offset after the last record of the prefix; 0 if the prefix is empty.
    end: int = 0


class FinishedPrefix:
    """The finished prefix of each partition, and the records after it, of which at most `limit` may wait.

    Not thread-safe: the owner calls it under a lock.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._generation = 0
        self._tracks: dict[Partition, _Track] = {}

    def open(self, partition: Partition) -> None:
        """Starts to track `partition` under a new generation. Idempotent: a tracked partition is not changed."""
        if partition not in self._tracks:
            self._tracks[partition] = self._new_track()

    def retain(self, partitions: Iterable[Partition]) -> None:
        """Drops every partition that is not in `partitions`, with its waiting records."""
        retained = set(partitions)
        self._tracks = {partition: track for partition, track in self._tracks.items() if partition in retained}

    def add(self, partition: Partition, offset: int) -> Position:
        """Notes that the record at `offset` was delivered. Raises ValueError if `limit` records of the partition wait.

        If `offset` is not above all earlier offsets, the log was rewound or recreated. Then the waiting records are
        dropped, and a new generation begins.
        """
        track = self._tracks[partition]
        if offset < track.end or (track.waiting and offset <= next(reversed(track.waiting))):
            track = self._new_track()
            self._tracks[partition] = track
        if len(track.waiting) >= self._limit:
            raise ValueError(
                f"{partition}: {self._limit} records wait already; call finish for some before adding more"
            )
        track.waiting[offset] = False
        return Position(topic=partition[0], partition=partition[1], offset=offset, generation=track.generation)

    def finish(self, position: Position) -> bool:
        """Notes that the effect of the record at `position` is done, and returns whether this counts.

        It does not count if the generation of the position is over, or if the record was finished before. Takes
        amortised constant time: each record is visited once more, when the prefix passes it.
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
        """Returns partition -> offset to commit: all records below it are finished. Empty prefixes are absent."""
        ends = {partition: next(iter(track.waiting), track.end) for partition, track in self._tracks.items()}
        return {partition: end for partition, end in ends.items() if end}

    def prefix_with(self, is_done: Callable[[Position], bool]) -> tuple[dict[Partition, int], list[Position]]:
        """Returns the prefix as it would be if the records for which `is_done` returns True were finished, too.

        Also returns the positions of those records that this prefix would contain. The state does not change.
        """
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

    def is_current(self, position: Position) -> bool:
        """Whether `position` carries the present generation of its partition's assignment."""
        track = self._tracks.get((position.topic, position.partition))
        return track is not None and track.generation == position.generation

    def num_unfinished(self) -> int:
        """Returns the number of delivered records that are not finished."""
        return sum(not is_finished for track in self._tracks.values() for is_finished in track.waiting.values())

    def room(self, partition: Partition) -> int:
        """Returns the number of records of `partition` that may still be delivered."""
        return self._limit - len(self._tracks[partition].waiting)

    @property
    def partitions(self) -> list[Partition]:
        """The tracked partitions, sorted."""
        return sorted(self._tracks)

    def _new_track(self) -> _Track:
        self._generation += 1
        return _Track(self._generation)


class Transaction(NamedTuple):
    """The input of one transaction.

    - `offsets`: the offsets to commit.
    - `positions`: the records whose effects the transaction must contain.
    - `member`: the group member on whose behalf it commits.
    """

    offsets: Mapping[Any, Any]
    positions: Sequence[Position]
    member: Any


class Commits:
    """The commits of one subscription. `lock` is the subscription's lock, which guards `finished`."""

    def __init__(self, finished: FinishedPrefix, lock: threading.Lock) -> None:
        self._finished = finished
        self._lock = lock
        self._committed: dict[Any, int] = {}
        # Partition -> (first offset, leader epoch) for each epoch.
        self._epochs: dict[Any, list[tuple[int, int]]] = {}
        # Whether the last commit failed: an outage is logged once, not at every commit.
        self._has_failed = False
        self._next_s = 0.0
        self._is_under_way = False
        self.num_failed = 0

    def note_epoch(self, partition: Any, offset: int, epoch: int) -> None:
        """Notes that the record at `offset` was written in leader epoch `epoch`. The caller holds the lock."""
        epochs = self._epochs.setdefault(partition, [])
        # Epochs at or above the offset are from before the log was rewound.
        while epochs and epochs[-1][0] >= offset:
            epochs.pop()
        if not epochs or epochs[-1][1] != epoch:
            epochs.append((offset, epoch))

    def begin_commit(self) -> dict[Any, Any]:
        """Returns the offsets to commit now, after which `end_commit` must be called.

        Returns {} if the interval is not over, a commit is under way, or no offset is new.
        """
        now_s = time.monotonic()
        if self._is_under_way or now_s < self._next_s:
            return {}
        self._next_s = now_s + COMMIT_INTERVAL_S
        offsets = self.offsets()
        self._is_under_way = bool(offsets)
        return offsets

    def offsets(self) -> dict[Any, Any]:
        """Returns the offsets that are finished and not committed.

        Before anything is finished there are none. The offset at which we resumed is committed already, with the leader
        epoch of a record that we have not read.
        """
        return self.offsets_with(lambda position: False)[0]

    def offsets_with(self, is_done: Callable[[Position], bool]) -> tuple[dict[Any, Any], list[Position]]:
        """Returns the offsets to commit if the records for which `is_done` returns True were finished, too.

        Also returns the positions of those records below these offsets.
        """
        with self._lock:
            ends, done = self._finished.prefix_with(is_done)
            return self._uncommitted(ends), done

    async def commit_now(self, consumer: Any) -> None:
        """Commits the finished offsets before partitions may be revoked; gives up after REVOKE_TIMEOUT_MS.

        The client's `commit_async` has no timeout, and it returns before the commit if the coordinator is unknown.
        """
        if not (offsets := self.offsets()):
            return
        try:
            await consumer._coordinator._commit_offsets_sync_async(offsets, timeout_ms=REVOKE_TIMEOUT_MS)
        except KafkaError as error:
            self.end_commit(offsets, error)
        else:
            self.end_commit(offsets, None)

    def end_commit(self, offsets: Mapping[Any, Any], answer: object) -> None:
        """Notes the client's answer to a commit of `offsets`: an exception if the commit failed."""
        self._is_under_way = False
        if isinstance(answer, Exception):
            # The next commit includes these offsets.
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
        """Drops all state of partitions that are not in `partitions`."""
        with self._lock:
            committed = self._committed.items()
            self._committed = {partition: end for partition, end in committed if partition in partitions}
            known_epochs = self._epochs.items()
            self._epochs = {partition: epochs for partition, epochs in known_epochs if partition in partitions}

    def lag(self, consumer: Any) -> int:
        """Returns the number of unfinished records in our partitions, as of the last fetch of each partition.

        A partition from which no record was delivered yet counts as 0.
        """
        with self._lock:
            prefix = self._finished.prefix()
        lag = 0
        for partition in consumer.assignment():
            end = consumer.highwater(partition)
            if end is not None and partition in prefix:
                lag += max(0, end - prefix[partition])
        return lag

    def _uncommitted(self, ends: Mapping[Any, int]) -> dict[Any, Any]:
        return {
            TopicPartition(*partition): OffsetAndMetadata(end, "", self._epoch_before(partition, end))
            for partition, end in ends.items()
            if self._committed.get(partition) != end
        }

    def _epoch_before(self, partition: Any, end: int) -> int:
        """Returns the leader epoch of the last record before `end` (-1: unknown), and drops earlier epochs."""
        epochs = self._epochs.get(partition, [])
        while len(epochs) > 1 and epochs[1][0] < end:
            epochs.pop(0)
        if epochs and epochs[0][0] < end:
            return epochs[0][1]
        return -1
