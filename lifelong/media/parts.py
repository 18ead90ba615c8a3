"""Makes the parts of an event from files and arrays: `{"type": "image", "media_type": ..., "data": base64}`."""

import os
from base64 import b64encode
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from lifelong.media import MediaError


class PixelArray(Protocol):
    """An array of numpy, or one like it: uint8 [H, W] of grey, or uint8 [H, W, 3] of red, green and blue."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    def tobytes(self) -> bytes: ...


File: TypeAlias = bytes | str | os.PathLike[str]
"""The content of a file, or its path."""


def media_parts(image: File | PixelArray | None, audio: File | None) -> tuple[dict[str, Any], ...]:
    """Returns the parts of an event with a picture (PNG or pixels), a sound (WAV), both or none.

    Raises MediaError for an array of another type or shape, and OSError.

    >>> media_parts(b"PNG", None)
    ({'type': 'image', 'media_type': 'image/png', 'data': 'UE5H'},)
    """
    parts = []
    if image is not None:
        parts.append(_part("image", *_picture(image)))
    if audio is not None:
        parts.append(_part("audio", "audio/wav", _read(audio)))
    return tuple(parts)


def _picture(image: File | PixelArray) -> tuple[str, bytes]:
    if isinstance(image, bytes | str | os.PathLike):
        return "image/png", _read(image)
    height, width, *channels = image.shape
    if str(image.dtype) != "uint8" or channels not in ([], [3]):
        raise MediaError(f"a picture is {image.dtype} {[*image.shape]}; expected uint8 [height, width] or [..., 3]")
    return f"image/raw;width={width};height={height}{';channels=3' if channels else ''}", image.tobytes()


def _read(file: File) -> bytes:
    return file if isinstance(file, bytes) else Path(file).read_bytes()


def _part(name: str, media_type: str, data: bytes) -> dict[str, Any]:
    return {"type": name, "media_type": media_type, "data": b64encode(data).decode()}
