"""Turns a picture into grey values on a square grid, by integer arithmetic.

    PNG --header: size checked--> Pillow --> uint8 grey [H, W] --area average--> uint8 [size, size]
    raw pixels, 1 or 3 bytes each ---------------^

Only lossless pictures are read: decoders of JPEG may differ in the last bit. The shape of the picture is not kept: it
is scaled to a square.

Shape suffixes: H height, W width, S size of the result.
"""

import re
import struct
import zlib
from functools import lru_cache
from io import BytesIO
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import numpy as np

from lifelong.media import MediaError, check_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

PNG: Final = "image/png"

RAW: Final = "image/raw"
"""Rows of pixels from the top, without a header: `image/raw;width=28;height=28`, and `;channels=3` for RGB."""

SIZE: Final = 28
"""The default height and width of the result, in pixels."""

MAX_SIZE: Final = 256
"""The largest height and width of the result, in pixels."""

MAX_PIXELS: Final = 1 << 24
"""The largest picture: 16 megapixels. A decoded pixel takes at most 4 bytes."""

MAX_SIDE: Final = 1 << 14
"""The largest height and width of a picture."""

BAND_PIXELS: Final = 1 << 20
"""A decoded picture is converted to grey in bands of about this many pixels, which bounds the memory."""

Grey: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.uint8]]
"""Grey values from 0, black, to 255, white."""

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"

_RAW_TYPE: Final = re.compile(rf"{RAW};width=(\d{{1,8}});height=(\d{{1,8}})(?:;channels=([13]))?")

_DECODER: Final = Lock()
"""Held while a PNG is decoded, so that a process has memory for one decoded picture only."""


def pixels(data: bytes, media_type: str, *, size: int = SIZE) -> Grey:
    """Returns the grey values of a picture, uint8 [size, size]. Raises MediaError.

    Colours are weighted as in ITU-R BT.601. Transparent pixels lie on white.
    Of 16-bit values, the upper 8 bits are read.

    >>> pixels(bytes([0, 0, 255, 255]), "image/raw;width=2;height=2", size=1).tolist()
    [[128]]
    """
    raw = check_picture(data, media_type)
    grey_HW = _png_grey(data) if raw is None else _raw_grey(data, raw)
    return _scaled(grey_HW, size)


class RawShape(NamedTuple):
    """The shape of a picture of raw pixels. `channels` are 1 for grey, and 3 for red, green and blue."""

    height: int
    width: int
    channels: int


def check_picture(data: bytes, media_type: str) -> RawShape | None:
    """Checks the bounds of a picture without decoding it. Raises MediaError.

    Returns the shape of raw pixels, and None for PNG.
    """
    check_bytes(data, "the picture")
    media_type = media_type.replace(" ", "").lower()
    if media_type == PNG:
        _check_png(data)
        return None
    if match := _RAW_TYPE.fullmatch(media_type):
        width, height, channels = (int(group or 1) for group in match.groups())
        shape = RawShape(height, width, channels)
        _check_raw(data, shape)
        return shape
    raise MediaError(f"the picture has the media type {media_type[:60]!r}; {PNG} and {RAW};width=28;height=28 are read")


def _check_shape(height: int, width: int) -> None:
    if not height or not width:
        raise MediaError(f"the picture has {width:,} x {height:,} pixels, which is none")
    if height * width > MAX_PIXELS or max(height, width) > MAX_SIDE:
        at_most = f"at most {MAX_PIXELS:,} are read, and {MAX_SIDE:,} in a row or column"
        raise MediaError(f"the picture has {width:,} x {height:,} pixels, {at_most}")


def _check_raw(data: bytes, shape: RawShape) -> None:
    height, width, channels = shape
    _check_shape(height, width)
    if len(data) != height * width * channels:
        raise MediaError(
            f"the raw picture has {len(data):,} bytes; {width:,} x {height:,} pixels of {channels} bytes are "
            f"{height * width * channels:,}"
        )


def _raw_grey(data: bytes, shape: RawShape) -> Grey:
    flat = np.frombuffer(data, np.uint8)
    if shape.channels == 1:
        return flat.reshape(shape.height, shape.width)
    # The formula of Pillow's conversion to grey, so that both media types give the same values.
    weighted = flat.reshape(shape) @ np.array([19_595, 38_470, 7_471], np.uint32) + 0x8000
    return (weighted >> 16).astype(np.uint8)


def _png_grey(data: bytes) -> Grey:
    try:
        from PIL import Image
    except ImportError as error:
        raise MediaError("PNG cannot be read here: pip install 'lifelong[media]'") from error
    try:
        with _DECODER, Image.open(BytesIO(data), formats=["PNG"]) as image:
            image.load()
            return _grey(image)
    # What Pillow raises for a broken file (SyntaxError is its word for a broken chunk).
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error, zlib.error) as error:
        raise MediaError(f"the PNG is broken: {error}") from error


def _check_png(data: bytes) -> None:
    """Reads the header and walks over the chunks before the first pixels. Raises MediaError."""
    if not data.startswith(_SIGNATURE) or data[12:16] != b"IHDR" or len(data) < 33:
        raise MediaError("the picture is not a PNG: its first bytes are not a PNG header")
    width, height = struct.unpack_from(">II", data, 16)
    _check_shape(height, width)
    place = len(_SIGNATURE)
    while place + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        if name == b"acTL":
            raise MediaError("the PNG is animated: send one picture")
        if name == b"IDAT":
            return
        place += 12 + length
    raise MediaError("the PNG is broken: it has no pixels")


def _grey(image: "Image") -> Grey:
    """Returns the grey values of a decoded picture, uint8 [H, W]."""
    grey = np.empty((image.height, image.width), np.uint8)
    num_rows = max(BAND_PIXELS // image.width, 1)
    for top in range(0, image.height, num_rows):
        band = image.crop((0, top, image.width, min(top + num_rows, image.height)))
        grey[top : top + num_rows] = _band_grey(band)
    return grey


def _band_grey(band: "Image") -> Grey:
    if band.mode.startswith("I"):
        return (np.asarray(band).astype(np.uint16) >> 8).astype(np.uint8)
    if not band.has_transparency_data:
        return np.asarray(band.convert("L"))
    rgba = band.convert("RGBA")
    alpha = np.asarray(rgba.getchannel("A")).astype(np.uint16)
    grey = np.asarray(rgba.convert("RGB").convert("L")).astype(np.uint16)
    return ((grey * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _scaled(grey_HW: Grey, size: int) -> Grey:
    """Returns the area average of each cell of a grid, uint8 [size, size]; halves are rounded up."""
    if not 0 < size <= MAX_SIZE:
        raise ValueError(f"a size of {size}: give 1 to {MAX_SIZE}")
    height, width = grey_HW.shape
    if height == width == size:
        return grey_HW
    rows_SH = _overlaps(height, size)
    columns_WS = _overlaps(width, size).T
    area = height * width
    scaled = np.empty((size, size), np.uint8)
    for row in range(size):
        # The rows of the picture that this row of the grid covers, in part or wholly.
        covered = slice(row * height // size, -(-(row + 1) * height // size))
        # All values are integers of at most 255 * H * W < 2^32, so float64 is exact. `einsum` starts no threads.
        sum_W = np.einsum("h,hw->w", rows_SH[row, covered], grey_HW[covered].astype(np.float64))
        sum_S = np.einsum("w,ws->s", sum_W, columns_WS)
        scaled[row] = (2 * sum_S + area) // (2 * area)
    return scaled


@lru_cache(maxsize=4)
def _overlaps(length: int, size: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Returns how much each cell of a grid overlaps each pixel of a row, float64 [size, length].

    The unit is 1 / size of a pixel, so the overlaps are integers, and those of a cell have the sum `length`.
    """
    pixels_L = np.arange(length) * size
    cells_S1 = np.arange(size)[:, None] * length
    overlap_SL = np.minimum(pixels_L + size, cells_S1 + length) - np.maximum(pixels_L, cells_S1)
    found: np.ndarray[tuple[int, int], np.dtype[np.float64]] = np.maximum(overlap_SL, 0).astype(np.float64)
    return found
