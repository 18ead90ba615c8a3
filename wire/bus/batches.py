"""The batches of a fetch, one record at a time: whatever the bytes are, the reader moves on.

    bytes of a fetch -> RecordBatch -> Raw: a record | a refusal (of a record, or of what is left of a batch) | a gap

Where a batch cannot be read (its checksum is wrong, its compression is not known, a length does not fit) what is left
of it is one refusal, with the batch as its payload. Gaps are offsets that hold nothing for us: markers of transactions,
aborted records, what compaction has removed.

Rejected: the client library's own reader. It raises for a checksum, a compression or a header name that it cannot
read, says neither where the batch begins nor where it ends, raises at the same offset for ever, and inflates without a
bound.
"""

import struct
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from kafka import TopicPartition  # type: ignore[import-untyped]
from kafka.record.util import calc_crc32c, decode_varint  # type: ignore[import-untyped]

from wire.bus.inflate import inflate
from wire.envelope import HEADER_NAMES
from wire.errors import BadMessage

MAX_HEADERS = 1_000
"""Most headers of one record that are looked through."""

RECORD_BYTES = 200  # what a record takes in memory besides its key, its value and its headers

HEADER = struct.Struct(">qiibIhiqqqhii")
"""Base offset, length, leader epoch, format, checksum, attributes, last offset delta, first and largest timestamp,
producer, its epoch, base sequence, number of records."""

LENGTH_AT = 8
LENGTH_FROM = 12  # the length counts what follows it
CHECKSUM_FROM = 21
FORMAT = 2
CODEC_BITS = 0x07
LOG_APPEND_TIME_BIT = 0x08
TRANSACTIONAL_BIT = 0x10
CONTROL_BIT = 0x20
MARKER = struct.Struct(">hh")
"""The key of the record in a control batch: version and type."""

ABORT = 0


class Raw(msgspec.Struct, frozen=True, kw_only=True):
    """What lies from `offset` up to `next_offset`. With an `error` it is no record, and a gap is nothing at all."""

    topic: str
    partition: int
    offset: int
    next_offset: int
    num_bytes: int = RECORD_BYTES
    timestamp_ms: int = -1
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    error: BadMessage | None = None
    is_gap: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordBatch:
    """One batch as the broker has sent it. With a `fault` nothing of its header counts but the two offsets."""

    partition: TopicPartition
    data: memoryview
    base_offset: int
    next_offset: int
    leader_epoch: int = -1
    attributes: int = 0
    first_ms: int = 0
    largest_ms: int = 0
    producer_id: int = -1
    num_records: int = 0
    fault: str = ""

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL_BIT)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & CONTROL_BIT)

    def raws(self) -> Iterator[Raw]:
        """Everything from the first offset to the last; raises nothing.

        A record is held back until the next one is read. If that fails, there is an offset left to say so at.
        """
        offset = self.base_offset
        held: Raw | None = None
        try:
            for raw in self._records():
                if held is not None:
                    yield held
                held = raw
                offset = raw.offset
        except (ValueError, IndexError) as error:
            yield self._rest(offset, str(error))
            return
        if held is not None:
            yield held
            offset = held.next_offset
        if offset < self.next_offset:
            yield self.gap(offset)

    def gap(self, offset: int) -> Raw:
        """Nothing, from `offset` to the end of the batch."""
        topic, number = self.partition
        return Raw(topic=topic, partition=number, offset=offset, next_offset=self.next_offset, is_gap=True)

    def is_abort(self) -> bool:
        """Whether the batch ends a transaction whose records do not count."""
        try:
            return self.is_control and self._marker() == ABORT
        except (ValueError, IndexError):
            return False

    def _rest(self, offset: int, reason: str) -> Raw:
        topic, number = self.partition
        detail = f"offsets {offset} to {self.next_offset - 1} of a batch that begins at {self.base_offset}: {reason}"
        return Raw(
            topic=topic,
            partition=number,
            offset=offset,
            next_offset=self.next_offset,
            num_bytes=RECORD_BYTES + len(self.data),
            value=bytes(self.data),
            error=BadMessage("unreadable_batch", detail),
        )

    def _records(self) -> Iterator[Raw]:
        if self.fault:
            raise ValueError(self.fault)
        if self.is_control:
            self._marker()
            return
        next_offset = self.base_offset
        body = self._body()
        at = 0
        for _ in range(self.num_records):
            length, at = decode_varint(body, at)
            end = at + length
            if not at <= end <= len(body):
                raise ValueError(f"a record of {length} bytes does not fit")
            raw = self._record(body[at:end])
            if not next_offset <= raw.offset < self.next_offset:
                raise ValueError(f"a record has offset {raw.offset}")
            yield raw
            next_offset = raw.next_offset
            at = end
        if at < len(body):
            raise ValueError(f"{len(body) - at} bytes are left over behind {self.num_records} records")

    def _body(self) -> bytes:
        return bytes(inflate(self.attributes & CODEC_BITS, self.data[HEADER.size :]))

    def _record(self, data: bytes) -> Raw:
        at = 1  # behind the attributes, which mean nothing yet
        milliseconds, at = decode_varint(data, at)
        delta, at = decode_varint(data, at)
        key, at = _nullable(data, at)
        value, at = _nullable(data, at)
        headers, error = _headers(data, at)
        topic, number = self.partition
        has_append_time = bool(self.attributes & LOG_APPEND_TIME_BIT)
        return Raw(
            topic=topic,
            partition=number,
            offset=self.base_offset + delta,
            next_offset=self.base_offset + delta + 1,
            num_bytes=RECORD_BYTES + len(data),
            timestamp_ms=self.largest_ms if has_append_time else self.first_ms + milliseconds,
            key=key,
            value=value,
            headers=headers,
            error=error,
        )

    def _marker(self) -> int:
        body = self._body()
        length, at = decode_varint(body, 0)
        at += 1
        for _ in ("milliseconds", "offset"):
            _, at = decode_varint(body, at)
        key, _ = _nullable(body, at)
        if length < 0 or key is None or len(key) < MARKER.size:
            raise ValueError("it is a control batch without a marker")
        _, kind = MARKER.unpack_from(key)
        return int(kind)


class AbortedTransactions:
    """Which batches of one fetch belong to transactions that were aborted. The batches are asked in order."""

    def __init__(self, transactions: Sequence[Any]) -> None:
        self._to_come = deque(sorted(transactions, key=lambda transaction: transaction.first_offset))
        self._producers: set[int] = set()

    def include(self, batch: RecordBatch) -> bool:
        while self._to_come and self._to_come[0].first_offset < batch.next_offset:
            self._producers.add(self._to_come.popleft().producer_id)
        if batch.is_abort():
            self._producers.discard(batch.producer_id)
        return batch.is_transactional and not batch.is_control and batch.producer_id in self._producers


def batches_in(data: memoryview, partition: TopicPartition) -> Iterator[RecordBatch]:
    """The whole batches of a fetch. The last one may be cut off: the next fetch begins with it."""
    at = 0
    while at + LENGTH_FROM <= len(data):
        (length,) = struct.unpack_from(">i", data, at + LENGTH_AT)
        end = at + LENGTH_FROM + max(length, 0)
        if end > len(data):
            return
        yield _batch(data[at:end], partition)
        at = end


def _batch(data: memoryview, partition: TopicPartition) -> RecordBatch:
    (base,) = struct.unpack_from(">q", data)
    if len(data) < HEADER.size:
        return _faulty(data, partition, base, base + 1, "its header is cut off")
    (_, _, epoch, form, checksum, attributes, delta, first_ms, largest_ms, producer, _, _, num) = HEADER.unpack_from(
        data
    )
    if form != FORMAT:
        return _faulty(data, partition, base, base + 1, f"it has message format {form}, {FORMAT} is read")
    if calc_crc32c(data[CHECKSUM_FROM:]) != checksum:
        num_offsets = num if num == delta + 1 > 0 else 1  # two fields that agree were not damaged
        return _faulty(data, partition, base, base + num_offsets, "its checksum is wrong")
    return RecordBatch(
        partition=partition,
        data=data,
        base_offset=base,
        next_offset=base + max(delta, 0) + 1,
        leader_epoch=epoch,
        attributes=attributes,
        first_ms=first_ms,
        largest_ms=largest_ms,
        producer_id=producer,
        num_records=num,
    )


def _faulty(data: memoryview, partition: TopicPartition, base_offset: int, next_offset: int, fault: str) -> RecordBatch:
    return RecordBatch(partition=partition, data=data, base_offset=base_offset, next_offset=next_offset, fault=fault)


def _nullable(data: bytes, at: int) -> tuple[bytes | None, int]:
    """The bytes at `at`, behind their length; None where that is negative."""
    length, at = decode_varint(data, at)
    if length < 0:
        return None, at
    end = at + length
    if end > len(data):
        raise ValueError(f"a part of {length} bytes does not fit into its record")
    return data[at:end], end


def _headers(data: bytes, at: int) -> tuple[tuple[tuple[str, bytes | None], ...], BadMessage | None]:
    """The headers that are ours, from `at` on. The names of others may be any bytes, or nothing."""
    num, at = decode_varint(data, at)
    if num > MAX_HEADERS:
        return (), BadMessage("oversized", f"there are {num} headers, at most {MAX_HEADERS} are read")
    headers = []
    for _ in range(num):
        name, at = _nullable(data, at)
        value, at = _nullable(data, at)
        if name in HEADER_NAMES:
            headers.append((HEADER_NAMES[name], value))
    if num < 0 or at != len(data):
        raise ValueError("the parts of a record are not as long as the record")
    return tuple(headers), None
