"""Small PNG and WAV files, valid and damaged, for tests of what reads them."""

import struct
import wave
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image


def png(values: Any, mode: str | None = None, **options: Any) -> bytes:
    """Returns a PNG of pixel values, in another mode of Pillow if one is given."""
    image = Image.fromarray(np.asarray(values))
    file = BytesIO()
    (image.convert(mode) if mode else image).save(file, "PNG", **options)
    return file.getvalue()


def animated_png() -> bytes:
    frames = [Image.fromarray(np.full((4, 4), grey, np.uint8)) for grey in (0, 255)]
    file = BytesIO()
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    return file.getvalue()


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def make_png(header: bytes, compressed: bytes, before: bytes = b"") -> bytes:
    chunks = png_chunk(b"IHDR", header) + before + png_chunk(b"IDAT", compressed) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def huge_png(width: int = 30_000, height: int = 30_000) -> bytes:
    """Returns a PNG of about 1 kB that declares a huge size."""
    return make_png(struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0), zlib.compress(bytes(1_000_000)))


def largest_png() -> bytes:
    """Returns a PNG of 4,096 x 4,096 transparent pixels, made without memory for them: decoded, it takes 64 MiB."""
    compressor = zlib.compressobj()
    rows = [compressor.compress(bytes(1 + 4 * 4_096)) for _ in range(4_096)]
    header = struct.pack(">IIBBBBB", 4_096, 4_096, 8, 6, 0, 0, 0)
    return make_png(header, b"".join(rows) + compressor.flush())


def text_bomb() -> bytes:
    """Returns a small PNG with a compressed text of 80 MB."""
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000)))
    return make_png(struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0), zlib.compress(bytes(2)), text)


def cmyk(file_format: str) -> bytes:
    file = BytesIO()
    Image.new("CMYK", (4, 4)).save(file, file_format)
    return file.getvalue()


def wav(samples: Any, rate: int = 8_000, *, width: int = 2, channels: int = 1) -> bytes:
    """Returns a WAV of int16 samples, which are stored with `width` bytes each."""
    upper = np.asarray(samples, np.int16).reshape(-1)
    if width == 1:
        frames = ((upper >> 8) + 128).astype(np.uint8).tobytes()
    else:
        parts = np.zeros((len(upper), width), np.uint8)
        parts[:, -2:] = upper.astype("<i2").view(np.uint8).reshape(-1, 2)
        frames = parts.tobytes()
    file = BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((channels, width, rate, 0, "NONE", ""))
        writer.writeframes(frames)
    return file.getvalue()


def with_data_length(data: bytes, length: int) -> bytes:
    """Returns a WAV that says that its samples have `length` bytes."""
    place = data.index(b"data") + 4
    return data[:place] + struct.pack("<I", length) + data[place + 4 :]


def extensible(data: bytes) -> bytes:
    """Returns a WAV of the plain format as one of the extensible format."""
    channels, rate, num_bytes_a_second, frame, bits = struct.unpack_from("<HIIHH", data, 22)
    guid = b"\1\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
    fmt = struct.pack("<HHIIHHHHI", 0xFFFE, channels, rate, num_bytes_a_second, frame, bits, 22, bits, 0) + guid
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + data[36:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tone(hz: float, seconds: float, rate: int = 8_000, amplitude: int = 10_000) -> Any:
    """Returns a sine, int16."""
    return np.rint(amplitude * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)).astype(np.int16)
