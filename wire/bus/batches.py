"""Reads the record batches of a fetch, record by record, and always advances, whatever the bytes are.

    bytes of a fetch -> RecordBatch -> Raw: a record | a refusal (of a record, or of the rest of a batch) | a gap

Where a batch cannot be read (its checksum is wrong, its compression is unknown, a length does not fit) the rest of it
is one refusal, with the batch as its payload. Gaps are offsets without a record for us: transaction markers, aborted
records, and offsets that compaction has removed.

Rejected: the client library's own reader. It raises for a checksum, a compression or a header name that it cannot
read, does not tell where the batch begins and ends, raises at the same offset for ever, and decompresses without a
bound.
"""

import struct
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from kafka import TopicPartition  # type: ignore[import-untyped]
from kafka.record.util import calc_crc32c, decode_varint  # type: ignore[import-untyped]

from wire.bus.inflate import inflate
from wire.bus.record_format import marker_type, named_headers, nullable
from wire.errors import BadMessage

RECORD_BYTES = 200  # memory of a record besides its key, its value and its headers

HEADER = struct.Struct(">qiibIhiqqqhii")
"""Base offset, length, leader epoch, format, checksum, attributes, last offset delta, first and largest timestamp,
producer, its epoch, base sequence, number of records."""

LENGTH_AT = 8
LENGTH_FROM = 12  # the length counts the bytes after it
CHECKSUM_FROM = 21
FORMAT = 2
CODEC_BITS = 0x07
LOG_APPEND_TIME_BIT = 0x08
TRANSACTIONAL_BIT = 0x10
CONTROL_BIT = 0x20
ABORT = 0  # type of the marker that ends an aborted transaction


class Raw(msgspec.Struct, frozen=True, kw_only=True):
    """The log from `offset` to `next_offset`: a record, a refusal where `error` is set, or nothing where `is_gap`.

    `epoch` is that of the leader that wrote it. `appended_ms` is the time of the record by the broker's clock (0: it
    has that of its sender's alone).
    """

    topic: str
    partition: int
    offset: int
    next_offset: int
    num_bytes: int = RECORD_BYTES
    timestamp_ms: int = -1
    appended_ms: int = 0
    epoch: int = -1
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    error: BadMessage | None = None
    is_gap: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordBatch:
    """One batch as the broker sent it. Where `fault` is set only the two offsets of its header are valid."""

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
        """Yields records, refusals and gaps for all offsets of the batch; raises nothing.

        A record is held back until the next one is read. If that fails, the offset of the record held back stands for
        the refusal.
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
        """Returns a gap from `offset` to the end of the batch."""
        topic, number = self.partition
        return Raw(
            topic=topic,
            partition=number,
            offset=offset,
            next_offset=self.next_offset,
            epoch=self.leader_epoch,
            is_gap=True,
        )

    def is_abort(self) -> bool:
        """Whether the batch is the marker of an aborted transaction."""
        try:
            return self.is_control and marker_type(self._body()) == ABORT
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
            epoch=self.leader_epoch,
            value=bytes(self.data),
            error=BadMessage("unreadable_batch", detail),
        )

    def _records(self) -> Iterator[Raw]:
        if self.fault:
            raise ValueError(self.fault)
        if self.is_control:
            marker_type(self._body())  # raises where it is damaged
            return
        next_offset = self.base_offset
        body = self._body()
        at = 0
        for _ in range(self.num_records):
            length, at = decode_varint(body, at)
            end = at + length
            if end < at or end > len(body):
                raise ValueError(f"a record of {length} bytes does not fit")
            raw = self._record(body[at:end])
            if raw.offset < next_offset or raw.offset >= self.next_offset:
                raise ValueError(f"a record has offset {raw.offset}")
            yield raw
            next_offset = raw.next_offset
            at = end
        if at < len(body):
            raise ValueError(f"{len(body) - at} bytes are left over behind {self.num_records} records")

    def _body(self) -> bytes:
        return bytes(inflate(self.attributes & CODEC_BITS, self.data[HEADER.size :]))

    def _record(self, data: bytes) -> Raw:
        at = 1  # after the attributes, which have no meaning yet
        milliseconds, at = decode_varint(data, at)
        delta, at = decode_varint(data, at)
        key, at = nullable(data, at)
        value, at = nullable(data, at)
        headers, error = named_headers(data, at)
        topic, number = self.partition
        has_append_time = bool(self.attributes & LOG_APPEND_TIME_BIT)
        return Raw(
            topic=topic,
            partition=number,
            offset=self.base_offset + delta,
            next_offset=self.base_offset + delta + 1,
            num_bytes=RECORD_BYTES + len(data),
            timestamp_ms=self.largest_ms if has_append_time else self.first_ms + milliseconds,
            appended_ms=self.largest_ms if has_append_time else 0,
            epoch=self.leader_epoch,
            key=key,
            value=value,
            headers=headers,
            error=error,
        )


def with_aborted(batches: Iterable[RecordBatch], transactions: Iterable[Any]) -> Iterator[tuple[RecordBatch, bool]]:
    """Yields each batch of one fetch, and whether its records are of one of these aborted `transactions`."""
    pending = deque(sorted(transactions, key=lambda transaction: transaction.first_offset))
    producers: set[int] = set()
    for batch in batches:
        while pending and pending[0].first_offset < batch.next_offset:
            producers.add(pending.popleft().producer_id)
        if batch.is_abort():
            producers.discard(batch.producer_id)
        yield batch, batch.is_transactional and not batch.is_control and batch.producer_id in producers


def batches_in(data: memoryview, partition: TopicPartition) -> Iterator[RecordBatch]:
    """Yields the complete batches of a fetch. A truncated last one is left out: the next fetch begins with it."""
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
        has_length = num > 0 and num == delta + 1  # two fields that agree were not damaged
        num_offsets = num if has_length else 1
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
