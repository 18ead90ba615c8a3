"""Fetches of the simulated consumer: where it is in each partition, and what the broker sends from there on."""

from dataclasses import dataclass
from typing import Any

from kafka import TopicPartition  # type: ignore[import-untyped]
from kafka.errors import LogTruncationError, OffsetOutOfRangeError  # type: ignore[import-untyped]
from kafka.structs import OffsetAndMetadata, OffsetAndTimestamp  # type: ignore[import-untyped]

from tests.simulation.broker import Broker
from wire.bus.record_batches import Raw


@dataclass
class Position:
    """Where a consumer is: the names are those of kafka-python."""

    offset: int
    leader_epoch: int = -1


class TopicState:
    """The state of one assigned partition, with the names of kafka-python."""

    def __init__(self) -> None:
        self.position: Position | None = None
        self.highwater: int | None = None
        self.epoch_validated = -1

    def seek(self, offset: OffsetAndMetadata) -> None:
        self.position = Position(offset.offset, offset.leader_epoch)
        self.epoch_validated = -1


class Fetches:
    """Reads from logs for one consumer. `reset` says what becomes of a position that is in no log, as in Kafka."""

    def __init__(self, broker: Broker, *, group: str, reset: str) -> None:
        self._broker = broker
        self._group = group
        self._reset = reset
        self.states: dict[TopicPartition, TopicState] = {}

    def records(self, num: int) -> dict[TopicPartition, tuple[list[Raw], int]]:
        """Returns at most `num` records with the epoch of the last, by partition. Positions stay.

        Raises OffsetOutOfRangeError and LogTruncationError.
        """
        partitions = sorted(self.states)
        self._broker.scheduler.rng.shuffle(partitions)
        fetched: dict[TopicPartition, tuple[list[Raw], int]] = {}
        for partition in partitions:
            self._check(partition)
            if raws := self._take(partition, num):
                fetched[partition] = (raws, self._broker.logs[partition].records[raws[-1].offset].epoch)
                num -= len(raws)
        return fetched

    def _check(self, partition: TopicPartition) -> None:
        """Raises where our position is not in the log; goes on elsewhere where a policy says so."""
        log = self._broker.logs[partition]
        state = self.states[partition]
        if state.position is None:
            self._begin(partition, state)
        assert state.position is not None
        position = state.position
        if state.epoch_validated != log.epoch and position.leader_epoch >= 0:
            end = log.find_end(position.leader_epoch)
            if end < position.offset:
                raise LogTruncationError({partition: OffsetAndMetadata(end, "", position.leader_epoch)})
        state.epoch_validated = log.epoch
        if not log.start <= position.offset <= log.end:
            if self._reset == "none":
                raise OffsetOutOfRangeError({partition: position.offset})
            state.position = Position(log.start if self._reset == "earliest" else log.end)

    def _begin(self, partition: TopicPartition, state: TopicState) -> None:
        committed = self._broker.group(self._group).committed.get(partition)
        log = self._broker.logs[partition]
        if committed is not None:
            state.position = Position(*committed)
        else:
            state.position = Position(log.end if self._reset == "latest" else log.start)

    def _take(self, partition: TopicPartition, num: int) -> list[Raw]:
        log = self._broker.logs[partition]
        state = self.states[partition]
        assert state.position is not None
        first = state.position.offset
        state.highwater = log.end
        return [self._raw(partition, offset) for offset in range(first, min(log.end, first + num))]

    def _raw(self, partition: TopicPartition, offset: int) -> Raw:
        stored = self._broker.logs[partition].records[offset]
        message = stored.message
        return Raw(
            topic=partition.topic,
            partition=partition.partition,
            offset=offset,
            next_offset=offset + 1,
            key=message.key,
            value=message.value,
            headers=message.headers,
            timestamp_ms=stored.appended_ms or message.timestamp_ms,
            appended_ms=stored.appended_ms,
            epoch=stored.epoch,
        )

    def offset_at(self, partition: TopicPartition, time_ms: int) -> Any:
        for offset, stored in enumerate(self._broker.logs[partition].records):
            at_ms = stored.appended_ms or stored.message.timestamp_ms
            if at_ms >= time_ms and offset >= self._broker.logs[partition].start:
                return OffsetAndTimestamp(offset, at_ms, stored.epoch)
        return None
