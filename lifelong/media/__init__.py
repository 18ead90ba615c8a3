"""Pictures and sound as small arrays of integers, which are the same on every machine.

pixels     PNG or raw pixels -> grey values, uint8 [size, size]
mel        WAV -> log-mel energies, int16 [frames, 40]

The decoders are libraries: Pillow reads PNG, and `wave` of the standard library reads WAV. The declared size is read
and checked before anything is decoded, so a small file cannot take much memory. Everything behind the decoders is
arithmetic on integers. Matrix products are computed in float64 with integers below 2^53, so every partial sum is exact
and the order of the additions does not matter.
"""

from typing import Final

MAX_BYTES: Final = 4 << 20
"""The largest picture or sound, in bytes."""


class MediaError(ValueError):
    """A picture or a sound cannot be read. The message says why, and what is read."""


def check_bytes(data: bytes, noun: str) -> None:
    """Raises MediaError if `data` is empty or longer than MAX_BYTES."""
    if not data:
        raise MediaError(f"{noun} has no bytes")
    if len(data) > MAX_BYTES:
        raise MediaError(f"{noun} has {len(data):,} bytes, at most {MAX_BYTES:,} are read")
