"""Pictures become the same grey values on every machine, and what cannot be read is one clear error."""

import resource
import struct
import subprocess
import sys
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lifelong.media import MAX_BYTES, MediaError
from lifelong.media.pixels import MAX_SIDE, PNG, pixels
from services.versions import ROOT
from tests.lifelong.media.files import animated_png, cmyk, huge_png, largest_png, make_png, png, png_chunk, text_bomb

PICTURES = st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(lambda shape: arrays(np.uint8, shape))


def gradient(height: int, width: int) -> np.ndarray:
    return np.add.outer(np.arange(height) * 7, np.arange(width) * 3).astype(np.uint8)


def test_a_picture_of_the_size_of_the_result_is_unchanged() -> None:
    grey = gradient(28, 28)
    assert np.array_equal(pixels(png(grey), PNG), grey)
    assert np.array_equal(pixels(grey.tobytes(), "image/raw; width=28; height=28"), grey)


@given(PICTURES, st.integers(1, 32))
def test_each_cell_is_the_rounded_mean_of_its_area(grey: np.ndarray, size: int) -> None:
    height, width = grey.shape
    # Each pixel is repeated, so that the borders of cells are borders of pixels.
    large = grey.astype(int).repeat(size, axis=0).repeat(size, axis=1)
    sums = large.reshape(size, height, size, width).sum(axis=(1, 3))
    expected = (2 * sums + height * width) // (2 * height * width)
    found = pixels(grey.tobytes(), f"image/raw;width={width};height={height}", size=size)
    assert found.dtype == np.uint8 and np.array_equal(found, expected)


def test_colours_of_png_and_of_raw_pixels_give_the_same_greys() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (28, 28, 3)).astype(np.uint8)
    found = pixels(png(colours), PNG)
    assert np.array_equal(found, pixels(colours.tobytes(), "image/raw;width=28;height=28;channels=3"))
    assert np.abs(found - colours @ [0.299, 0.587, 0.114]).max() <= 0.6


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_all_modes_of_png_give_the_greys_of_a_grey_picture(mode: str) -> None:
    grey = gradient(28, 28)
    assert np.array_equal(pixels(png(grey, mode), PNG), grey)


def test_pixels_of_one_bit_are_black_and_white() -> None:
    bits = gradient(28, 28) > 127
    assert np.array_equal(pixels(png(bits), PNG), bits * 255)


@pytest.mark.parametrize("low", [0, 200])
def test_the_upper_8_of_16_bits_are_read(low: int) -> None:
    grey = gradient(28, 28)
    assert np.array_equal(pixels(png(grey.astype(np.uint16) * 256 + low), PNG), grey)


def test_transparent_pixels_lie_on_white() -> None:
    colours = np.zeros((28, 28, 4), np.uint8)
    colours[:, :14, 3] = 255
    colours[0, 27, 3] = 51
    found = pixels(png(colours), PNG)
    assert found[5, 0] == 0 and found[5, 27] == 255 and found[0, 27] == 204


def test_a_picture_is_converted_in_bands_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (90, 70, 3)).astype(np.uint8)
    whole = pixels(png(colours), PNG)
    monkeypatch.setattr("lifelong.media.pixels.BAND_PIXELS", 700)
    assert np.array_equal(pixels(png(colours), PNG), whole)


BROKEN = png(gradient(28, 28))


@pytest.mark.parametrize(
    ("data", "media_type", "said"),
    [
        (huge_png(), PNG, r"30,000 x 30,000 pixels, at most 16,777,216 are read"),
        (huge_png(width=MAX_SIDE + 1, height=1), PNG, "16,385 x 1 pixels, at most"),
        (huge_png(width=0), PNG, "0 x 30,000 pixels, which is none"),
        (animated_png(), PNG, "the PNG is animated: send one picture"),
        (BROKEN[:-30], PNG, "the PNG is broken: "),
        (BROKEN[:33], PNG, "the PNG is broken: it has no pixels"),
        (BROKEN[:40] + bytes(90) + BROKEN[130:], PNG, "the PNG is broken: "),
        (text_bomb(), PNG, "the PNG is broken: Decompressed data too large"),
        (cmyk("JPEG"), PNG, "the picture is not a PNG"),
        (cmyk("TIFF"), "image/tiff", "media type 'image/tiff'; image/png and"),
        (b"", PNG, "the picture has no bytes"),
        (bytes(MAX_BYTES + 1), PNG, "has 4,194,305 bytes, at most 4,194,304 are read"),
        (bytes(5), "image/raw;width=2;height=2", "has 5 bytes; 2 x 2 pixels of 1 bytes are 4"),
        (bytes(9), "image/raw;width=30000;height=30000", "30,000 x 30,000 pixels, at most"),
        (bytes(9), "image/raw;width=0;height=1", "which is none"),
        (bytes(9), "image/raw", "media type 'image/raw'"),
    ],
)
def test_what_is_no_picture_is_one_error_that_says_why(data: bytes, media_type: str, said: str) -> None:
    with pytest.raises(MediaError, match=said):
        pixels(data, media_type)


PICTURES_BY_NAME = {"huge": huge_png, "text": text_bomb, "largest": largest_png}


def growth(name: str) -> int:
    """Returns by how many bytes the peak memory of this process grows when a picture is read."""
    data = PICTURES_BY_NAME[name]()
    pixels(png(gradient(40, 40), "RGBA"), PNG)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with suppress(MediaError):
        pixels(data, PNG)
    return 1_024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


@pytest.mark.parametrize(("name", "most"), [("huge", 1 << 20), ("text", 8 << 20), ("largest", 128 << 20)])
def test_the_memory_for_a_picture_is_bounded_whatever_it_declares(name: str, most: int) -> None:
    call = [sys.executable, "-c", f"from {__name__} import growth; print(growth({name!r}))"]
    found = subprocess.run(call, capture_output=True, text=True, cwd=ROOT, check=True)
    assert int(found.stdout) <= most


@given(st.binary(max_size=200), st.integers(0, len(BROKEN)), st.integers(0, 60))
def test_a_damaged_png_is_a_picture_or_one_error(noise: bytes, place: int, num_lost: int) -> None:
    for data in (noise, b"\x89PNG\r\n\x1a\n" + noise, BROKEN[:place] + noise + BROKEN[place + num_lost :]):
        try:
            assert pixels(data, PNG).shape == (28, 28)
        except MediaError as error:
            assert str(error)


NAMES = st.sampled_from(
    [b"PLTE", b"tRNS", b"iCCP", b"gAMA", b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"pHYs", b"fcTL", b"fdAT"]
)
CHUNKS = st.lists(st.tuples(NAMES, st.binary(max_size=40), st.booleans()), max_size=4)


@given(
    st.integers(0, 9),
    st.integers(0, 9),
    st.tuples(*[st.integers(0, 17), st.integers(0, 7), st.integers(0, 1), st.integers(0, 1), st.integers(0, 2)]),
    CHUNKS,
    st.binary(max_size=200),
)
def test_a_png_of_any_chunks_is_a_picture_or_one_error(
    width: int, height: int, kind: tuple[int, ...], chunks: list[tuple[bytes, bytes, bool]], rows: bytes
) -> None:
    """The checksums are right, so the decoder gets as far as it can."""
    header = struct.pack(">II5B", width, height, *kind)
    made = [png_chunk(name, b"x\0\0" + zlib.compress(data) if is_packed else data) for name, data, is_packed in chunks]
    try:
        assert pixels(make_png(header, zlib.compress(rows + bytes(700)), b"".join(made)), PNG).shape == (28, 28)
    except MediaError as error:
        assert str(error)
