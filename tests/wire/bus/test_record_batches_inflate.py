"""B4: tests that every codec is read, that inflation is bounded, and that a broken frame is a ValueError."""

import gzip
import tracemalloc
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from kafka import codec as library  # type: ignore[import-untyped]

from wire.bus.record_batches import MAX_INFLATED_BYTES, inflate

ENCODERS: dict[int, Callable[[bytes], bytes]] = {
    0: bytes,
    1: library.gzip_encode,
    2: library.snappy_encode,
    3: library.lz4_encode,
    4: library.zstd_encode,
}


def raw_snappy(data: bytes) -> bytes:
    frame: bytes = library.snappy_encode(data, xerial_compatible=False)
    return frame


@given(codec=st.sampled_from(sorted(ENCODERS)), data=st.binary(max_size=200), repeated=st.integers(1, 2_000))
def test_what_was_compressed_is_read(codec: int, data: bytes, repeated: int) -> None:
    assert inflate(codec, memoryview(ENCODERS[codec](data * repeated))) == data * repeated
    assert inflate(2, memoryview(raw_snappy(data * repeated))) == data * repeated


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_the_bound_is_kept_in_memory_too(codec: int) -> None:
    frame = memoryview(ENCODERS[codec](bytes(2 * MAX_INFLATED_BYTES)))
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"inflates to more than {MAX_INFLATED_BYTES} bytes"):
        inflate(codec, frame)
    assert tracemalloc.get_traced_memory()[1] < 3 * MAX_INFLATED_BYTES
    tracemalloc.stop()


def test_the_bound_itself_is_read() -> None:
    frame = zstandard.ZstdCompressor().compress(bytes(MAX_INFLATED_BYTES))
    assert len(inflate(4, memoryview(frame))) == MAX_INFLATED_BYTES


def test_a_codec_that_is_not_known() -> None:
    with pytest.raises(ValueError, match="compression 5, which does not exist"):
        inflate(5, memoryview(b""))


@given(
    codec=st.integers(1, 4),
    data=st.binary(max_size=100),
    edits=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255))),
)
def test_broken_frames_are_value_errors(codec: int, data: bytes, edits: list[tuple[int, int]]) -> None:
    frame = bytearray(ENCODERS[codec](data * 3))
    for at, byte in edits:
        if at < len(frame):
            frame[at] = byte
    for each in (frame, data, frame[: len(frame) // 2]):
        try:
            inflate(codec, memoryview(each))
        except ValueError as error:
            assert str(error)


def test_a_frame_of_many_megabytes_costs_what_it_holds() -> None:
    frame = gzip.compress(b"hello " * 1_000_000)
    assert len(inflate(1, memoryview(frame))) == 6_000_000
