"""Reads the record batches of a fetch (Kafka's message format 2), and always advances, whatever the bytes are.

    bytes of a fetch --batches_in--> RecordBatch --inflate, raws--> Raw: a record | a refusal | a gap

If a batch cannot be read (its checksum is wrong, its compression is unknown, a length does not fit), the rest of it is
one refusal, with the batch as its payload. Gaps are offsets without a record for us: transaction markers, aborted
records, and offsets that compaction has removed.

Functions that read a part of a record take the bytes and a position, and return what they read with the position behind
it. They raise ValueError or IndexError if the bytes do not fit. `inflate` decompresses at most MAX_INFLATED_BYTES of a
batch: a decompression bomb of kilobytes can inflate to gigabytes. All its errors are ValueError.
"""

import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import lz4.frame  # type: ignore[import-untyped]
import msgspec
import snappy  # type: ignore[import-untyped]
import zstandard
from kafka import TopicPartition  # type: ignore[import-untyped]
from kafka.record.util import calc_crc32c, decode_varint  # type: ignore[import-untyped]

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

MAX_HEADERS = 1_000
"""Most headers of one record that are read."""

MARKER = struct.Struct(">hh")
"""The key of the record in a control batch: version and type."""

Headers = tuple[tuple[str, bytes | None], ...]

MAX_INFLATED_BYTES = 64 << 20
"""Largest decompressed batch: eight times our largest message."""

GZIP_FORMAT = 31  # zlib's `wbits` for the gzip format with the largest window
XERIAL_MAGIC = b"\x82SNAPPY\x00"
XERIAL_HEADER_BYTES = 16  # the magic and two versions

Codec = Callable[[memoryview], bytes]


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


def nullable(data: bytes, at: int) -> tuple[bytes | None, int]:
    """Returns the byte string at `at`, which stands behind its length; None where the length is negative."""
    length, at = decode_varint(data, at)
    if length < 0:
        return None, at
    end = at + length
    if end > len(data):
        raise ValueError(f"a part of {length} bytes does not fit into its record")
    return data[at:end], end


def named_headers(data: bytes, at: int) -> tuple[Headers, BadMessage | None]:
    """Returns the headers that stand from `at` to the end of the record, or why they are not read.

    A header whose name is no UTF-8, or missing, is left out: other programs may have any.
    """
    num, at = decode_varint(data, at)
    if num > MAX_HEADERS:
        return (), BadMessage("oversized", f"there are {num} headers, at most {MAX_HEADERS} are read")
    headers = []
    for _ in range(num):
        name, at = nullable(data, at)
        value, at = nullable(data, at)
        with suppress(UnicodeDecodeError):
            if name is not None:
                headers.append((name.decode(), value))
    if num < 0 or at != len(data):
        raise ValueError("the parts of a record are not as long as the record")
    return tuple(headers), None


def marker_type(body: bytes) -> int:
    """Returns the type of the marker in the body of a control batch: 0 for an abort, 1 for a commit."""
    length, at = decode_varint(body, 0)
    at += 1
    for _ in ("milliseconds", "offset"):
        _, at = decode_varint(body, at)
    key, _ = nullable(body, at)
    if length < 0 or key is None or len(key) < MARKER.size:
        raise ValueError("it is a control batch without a marker")
    _, kind = MARKER.unpack_from(key)
    return int(kind)


def inflate(codec: int, data: memoryview) -> bytes | memoryview:
    """Returns the records of a batch with compression `codec`. Raises ValueError for an unknown codec, a broken frame,
    or more than MAX_INFLATED_BYTES.
    """
    if codec == 0:
        return data
    if codec not in CODECS:
        raise ValueError(f"no compression has the number {codec}")
    name, decompress = CODECS[codec]
    try:
        inflated = decompress(data)
    except (zlib.error, zstandard.ZstdError, snappy.UncompressError, RuntimeError, struct.error) as error:
        raise ValueError(f"the {name} frame is broken: {error}") from error
    if len(inflated) > MAX_INFLATED_BYTES:
        raise ValueError(f"the {name} frame inflates to more than {MAX_INFLATED_BYTES} bytes")
    return inflated


def _gzip(data: memoryview) -> bytes:
    return zlib.decompressobj(GZIP_FORMAT).decompress(data, MAX_INFLATED_BYTES + 1)


def _lz4(data: memoryview) -> bytes:
    decompressor: Any = lz4.frame.LZ4FrameDecompressor()  # its RuntimeError names what is wrong
    return cast("bytes", decompressor.decompress(data, max_length=MAX_INFLATED_BYTES + 1))


def _zstd(data: memoryview) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_INFLATED_BYTES)
    with decompressor.stream_reader(data, read_across_frames=True) as reader:
        return reader.read(MAX_INFLATED_BYTES + 1)


def _snappy(data: memoryview) -> bytes:
    """Decompresses one block, or the framed blocks of the Java library, each preceded by its size."""
    if bytes(data[: len(XERIAL_MAGIC)]) != XERIAL_MAGIC:
        return _snappy_block(data, room=MAX_INFLATED_BYTES)
    blocks: list[bytes] = []
    at = XERIAL_HEADER_BYTES
    room = MAX_INFLATED_BYTES
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        blocks.append(_snappy_block(data[at + 4 : at + 4 + size], room=room))
        room -= len(blocks[-1])
        at += 4 + size
    return b"".join(blocks)


def _snappy_block(block: memoryview, *, room: int) -> bytes:
    """Decompresses a block. It begins with its decompressed size, a little-endian varint of 7 bits a byte."""
    size = 0
    for index, byte in enumerate(block[:5]):
        size |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            break
    if size > room:
        raise ValueError(f"the snappy frame inflates to more than {MAX_INFLATED_BYTES} bytes")
    return cast("bytes", snappy.decompress(bytes(block)))


CODECS: dict[int, tuple[str, Codec]] = {
    1: ("gzip", _gzip),
    2: ("snappy", _snappy),
    3: ("lz4", _lz4),
    4: ("zstd", _zstd),
}
