"""Draws by name under a secret: whether an event belongs to a share of all events, as nobody outside can predict.

    secret, name of the event --keyed BLAKE2b--> its place in [0, 1) --below the share?--> drawn, as at each replay

Senders choose the ids of their events. Under a hash without a key they could choose which of them are measured by.
"""

from hashlib import blake2b
from typing import Final

AUDIT: Final = "audit"
"""The draw of the events whose labels are asked for, whatever the answer: replicas and rollout draw the same ones."""

PAIRED: Final = "paired"
"""The draw of the events that go through the encoders of all arms."""

_BYTES: Final = 8


def keyed_place(secret: bytes, name: bytes) -> float:
    """Returns the place of `name` in [0, 1) under `secret`, of at most 64 bytes.

    >>> 0.0 <= keyed_place(b"secret", b"event-17") < 1.0, keyed_place(b"1", b"e") == keyed_place(b"2", b"e")
    (True, False)
    """
    digest = blake2b(name, key=secret, digest_size=_BYTES).digest()
    return (int.from_bytes(digest) >> 11) / 2.0**53


def is_drawn(secret: bytes, draw: str, event_id: str, share: float) -> bool:
    """Whether an event belongs to this share of the events in a draw, AUDIT or PAIRED, which are independent.

    >>> is_drawn(b"secret", AUDIT, "event-17", 0.0), is_drawn(b"secret", AUDIT, "event-17", 1.0)
    (False, True)
    """
    return keyed_place(secret, f"{draw} {event_id}".encode()) < share
