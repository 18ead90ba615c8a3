"""Parses the record batches of a fetch (Kafka's message format 2). Bytes that cannot be parsed are skipped, so a reader
never stalls.

    bytes of a fetch --split_batches--> RecordBatch --inflate, raws--> Raw: a record | a refusal | a gap

If a batch cannot be parsed (its checksum is wrong, its compression is unknown, a length does not fit), one refusal
covers the rest of its offsets, with the batch as its payload. Gaps are offsets that have no record for us: transaction
markers, aborted records, and offsets that compaction has removed.

Functions that parse a part of a record take the bytes and a position, and return the part and the position after it.
They raise ValueError or IndexError if the bytes do not fit. `inflate` decompresses at most MAX_INFLATED_BYTES of a
batch, because a decompression bomb of kilobytes can inflate to gigabytes. All its errors are ValueError.
"""

import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import lz4.frame  # type: ignore[import-untyped]
import msgspec
import snappy  # type: ignore[import-untyped]
import zstandard
from kafka import TopicPartition  # type: ignore[import-untyped]
from kafka.record.util import calc_crc32c, decode_varint  # type: ignore[import-untyped]

from wire.errors import BadMessage

RECORD_OVERHEAD_BYTES = 200
"""Memory of a record in addition to its key, its value and its headers."""

HEADER = struct.Struct(">qiibIhiqqqhii")
"""Base offset, length, leader epoch, format, checksum, attributes, last offset delta, first and largest timestamp,
producer, its epoch, base sequence, number of records."""

LENGTH_AT = 8
LENGTH_FROM = 12  # the length field counts the bytes after itself
CHECKSUM_FROM = 21
FORMAT = 2
CODEC_BITS = 0x07
LOG_APPEND_TIME_BIT = 0x08
TRANSACTIONAL_BIT = 0x10
CONTROL_BIT = 0x20
ABORT = 0  # type of the marker that ends an aborted transaction

MAX_HEADERS = 1_000
"""A record with more headers is refused."""

MARKER = struct.Struct(">hh")
"""The key of the record in a control batch: version and marker type."""

Headers = tuple[tuple[str, bytes | None], ...]

MAX_INFLATED_BYTES = 64 << 20
"""Largest decompressed batch: 64 MiB, eight times our largest message."""

GZIP_FORMAT = 31  # zlib's `wbits` for the gzip format with the largest window
XERIAL_MAGIC = b"\x82SNAPPY\x00"
XERIAL_HEADER_BYTES = 16  # the magic and two versions

Codec = Callable[[memoryview], bytes]


class Raw(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a log from `offset` up to `next_offset`.

    It is a gap if `is_gap` is set, a refusal if `error` is set, and otherwise a record. `epoch` is the epoch of the
    leader that wrote it. `appended_ms` is its time by the broker's clock; 0 if it has only its sender's time.
    """

    topic: str
    partition: int
    offset: int
    next_offset: int
    num_bytes: int = RECORD_OVERHEAD_BYTES
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
    """One batch as the broker sent it. If `fault` is set, only `base_offset` and `next_offset` are valid."""

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
        """Yields records, refusals and gaps that cover all offsets of the batch. It raises nothing.

        A record is yielded only after the next record was parsed. If that fails, the earlier record may be damaged,
        too: it is dropped, and the refusal begins at its offset.
        """
        offset = self.base_offset
        previous: Raw | None = None
        try:
            for raw in self._parse_records():
                if previous is not None:
                    yield previous
                previous = raw
                offset = raw.offset
        except (ValueError, IndexError) as error:
            yield self._refuse_rest(offset, str(error))
            return
        if previous is not None:
            yield previous
            offset = previous.next_offset
        if offset < self.next_offset:
            yield self.gap(offset)

    def gap(self, offset: int) -> Raw:
        """Returns a gap that covers the offsets from `offset` to the end of the batch."""
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

    def _refuse_rest(self, offset: int, reason: str) -> Raw:
        topic, number = self.partition
        detail = f"offsets {offset} to {self.next_offset - 1} of a batch that begins at {self.base_offset}: {reason}"
        return Raw(
            topic=topic,
            partition=number,
            offset=offset,
            next_offset=self.next_offset,
            num_bytes=RECORD_OVERHEAD_BYTES + len(self.data),
            epoch=self.leader_epoch,
            value=bytes(self.data),
            error=BadMessage("unreadable_batch", detail),
        )

    def _parse_records(self) -> Iterator[Raw]:
        if self.fault:
            raise ValueError(self.fault)
        if self.is_control:
            # Raises an error if the marker is damaged.
            marker_type(self._body())
            return
        next_offset = self.base_offset
        body = self._body()
        at = 0
        for _ in range(self.num_records):
            length, at = decode_varint(body, at)
            end = at + length
            if end < at or end > len(body):
                raise ValueError(f"a record of {length} bytes does not fit into the batch")
            raw = self._parse_record(body[at:end])
            if raw.offset < next_offset or raw.offset >= self.next_offset:
                raise ValueError(f"a record has offset {raw.offset}, which is out of order or outside the batch")
            yield raw
            next_offset = raw.next_offset
            at = end
        if at < len(body):
            raise ValueError(f"{len(body) - at} bytes are left over after {self.num_records} records")

    def _body(self) -> bytes:
        return bytes(inflate(self.attributes & CODEC_BITS, self.data[HEADER.size :]))

    def _parse_record(self, data: bytes) -> Raw:
        # The first byte has the attributes, to which Kafka has assigned no meaning yet.
        at = 1
        milliseconds, at = decode_varint(data, at)
        delta, at = decode_varint(data, at)
        key, at = read_nullable(data, at)
        value, at = read_nullable(data, at)
        headers, error = read_headers(data, at)
        topic, number = self.partition
        has_append_time = bool(self.attributes & LOG_APPEND_TIME_BIT)
        return Raw(
            topic=topic,
            partition=number,
            offset=self.base_offset + delta,
            next_offset=self.base_offset + delta + 1,
            num_bytes=RECORD_OVERHEAD_BYTES + len(data),
            timestamp_ms=self.largest_ms if has_append_time else self.first_ms + milliseconds,
            appended_ms=self.largest_ms if has_append_time else 0,
            epoch=self.leader_epoch,
            key=key,
            value=value,
            headers=headers,
            error=error,
        )


def flag_aborted(batches: Iterable[RecordBatch], transactions: Iterable[Any]) -> Iterator[tuple[RecordBatch, bool]]:
    """Yields each batch of one fetch, and whether its records belong to one of the aborted `transactions`."""
    pending = deque(sorted(transactions, key=lambda transaction: transaction.first_offset))
    producers: set[int] = set()
    for batch in batches:
        while pending and pending[0].first_offset < batch.next_offset:
            producers.add(pending.popleft().producer_id)
        if batch.is_abort():
            producers.discard(batch.producer_id)
        yield batch, batch.is_transactional and not batch.is_control and batch.producer_id in producers


def split_batches(data: memoryview, partition: TopicPartition) -> Iterator[RecordBatch]:
    """Yields the complete batches of a fetch. A truncated last batch is left out: the next fetch begins with it."""
    at = 0
    while at + LENGTH_FROM <= len(data):
        (length,) = struct.unpack_from(">i", data, at + LENGTH_AT)
        end = at + LENGTH_FROM + max(length, 0)
        if end > len(data):
            return
        yield _parse_batch(data[at:end], partition)
        at = end


def _parse_batch(data: memoryview, partition: TopicPartition) -> RecordBatch:
    (base,) = struct.unpack_from(">q", data)
    if len(data) < HEADER.size:
        return _faulty_batch(data, partition, base, base + 1, "its header is truncated")
    (_, _, epoch, form, checksum, attributes, delta, first_ms, largest_ms, producer, _, _, num) = HEADER.unpack_from(
        data
    )
    if form != FORMAT:
        return _faulty_batch(data, partition, base, base + 1, f"it has message format {form}, expected {FORMAT}")
    if calc_crc32c(data[CHECKSUM_FROM:]) != checksum:
        # If the two fields agree, neither of them is damaged.
        has_length = num > 0 and num == delta + 1
        num_offsets = num if has_length else 1
        return _faulty_batch(data, partition, base, base + num_offsets, "its checksum is wrong")
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


def _faulty_batch(
    data: memoryview, partition: TopicPartition, base_offset: int, next_offset: int, fault: str
) -> RecordBatch:
    return RecordBatch(partition=partition, data=data, base_offset=base_offset, next_offset=next_offset, fault=fault)


def read_nullable(data: bytes, at: int) -> tuple[bytes | None, int]:
    """Returns the byte string at `at`, after its length, and the position after it; None if the length is negative."""
    # Nearly all lengths have one byte.
    first = data[at]
    if first < 0x80:
        length, at = (first >> 1) ^ -(first & 1), at + 1
    else:
        length, at = decode_varint(data, at)
    if length < 0:
        return None, at
    end = at + length
    if end > len(data):
        raise ValueError(f"a part of {length} bytes does not fit into its record")
    return data[at:end], end


def read_headers(data: bytes, at: int) -> tuple[Headers, BadMessage | None]:
    """Returns the headers from `at` to the end of the record, or the reason to refuse the record.

    A header whose name is missing or not UTF-8 is left out, because other programs may write any bytes.
    """
    num, at = decode_varint(data, at)
    if num > MAX_HEADERS:
        return (), BadMessage("oversized", f"the record has {num} headers, at most {MAX_HEADERS} are accepted")
    headers = []
    for _ in range(num):
        encoded, at = read_nullable(data, at)
        value, at = read_nullable(data, at)
        name = _header_name(encoded)
        if name is not None:
            headers.append((name, value))
    if num < 0 or at != len(data):
        raise ValueError("the parts of a record together are not as long as the record")
    return tuple(headers), None


@lru_cache(maxsize=1_024)
def _header_name(encoded: bytes | None) -> str | None:
    """Returns the name of a header; None if it is missing or not UTF-8. Most records have the same few names."""
    try:
        return None if encoded is None else encoded.decode()
    except UnicodeDecodeError:
        return None


def marker_type(body: bytes) -> int:
    """Returns the type of the marker in the body of a control batch: 0 for an abort, 1 for a commit."""
    length, at = decode_varint(body, 0)
    at += 1
    for _ in ("milliseconds", "offset"):
        _, at = decode_varint(body, at)
    key, _ = read_nullable(body, at)
    if length < 0 or key is None or len(key) < MARKER.size:
        raise ValueError("a control batch without a marker")
    _, kind = MARKER.unpack_from(key)
    return int(kind)


def inflate(codec: int, data: memoryview) -> bytes | memoryview:
    """Returns the decompressed records of a batch with compression `codec`.

    Raises ValueError for an unknown codec, a broken frame, or more than MAX_INFLATED_BYTES.
    """
    if codec == 0:
        return data
    if codec not in CODECS:
        raise ValueError(f"the batch has compression {codec}, which does not exist")
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
    decompressor: Any = lz4.frame.LZ4FrameDecompressor()
    return cast("bytes", decompressor.decompress(data, max_length=MAX_INFLATED_BYTES + 1))


def _zstd(data: memoryview) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_INFLATED_BYTES)
    with decompressor.stream_reader(data, read_across_frames=True) as reader:
        return reader.read(MAX_INFLATED_BYTES + 1)


def _snappy(data: memoryview) -> bytes:
    """Decompresses one block, or the framed blocks of the Java library; each framed block follows its size."""
    if bytes(data[: len(XERIAL_MAGIC)]) != XERIAL_MAGIC:
        return _snappy_block(data, max_bytes=MAX_INFLATED_BYTES)
    blocks: list[bytes] = []
    at = XERIAL_HEADER_BYTES
    bytes_left = MAX_INFLATED_BYTES
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        block = _snappy_block(data[at + 4 : at + 4 + size], max_bytes=bytes_left)
        blocks.append(block)
        bytes_left -= len(block)
        at += 4 + size
    return b"".join(blocks)


def _snappy_block(block: memoryview, *, max_bytes: int) -> bytes:
    """Decompresses one block. It begins with its decompressed size, a little-endian varint with 7 bits per byte."""
    size = 0
    for index, byte in enumerate(block[:5]):
        size |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            break
    # The size is checked before any byte is decompressed.
    if size > max_bytes:
        raise ValueError(f"the snappy frame inflates to more than {MAX_INFLATED_BYTES} bytes")
    return cast("bytes", snappy.decompress(bytes(block)))


CODECS: dict[int, tuple[str, Codec]] = {
    1: ("gzip", _gzip),
    2: ("snappy", _snappy),
    3: ("lz4", _lz4),
    4: ("zstd", _zstd),
}
