"""Draws by name: a place in [0, 1) says which arm answers an entity, and whether an event is in a share of all. Pure.

    entity key, salt of the plan --place_of--> in the share of which arm? --arm_for--> Arm, for Kafka and HTTP
    secret, id of the event --keyed_place--> below the share? --is_drawn--> drawn, as at each replay

The traffic split is a function of the plan and the key. The stable arm owns the interval from 0; the other arms take
their shares from the end, the last one (newest, of a small fixed share) first. So the assignment is sticky: a ramp of
the candidate from 1 % to 5 % to 25 % moves entities from stable to candidate, and never back.

The draws of events are under a secret, so that nobody outside can predict them: senders choose the ids of their events,
and under a hash without a key they could choose which of them are measured by.
"""

from hashlib import blake2b
from typing import Final

import mmh3

from wire.records import Arm, RolloutPlan

AUDIT: Final = "audit"
"""The draw of the events whose labels are asked for, whatever the answer: replicas and rollout draw the same ones."""

PAIRED: Final = "paired"
"""The draw of the events that go through the encoders of all arms."""

_BYTES: Final = 8


def arm_for(key: str, plan: RolloutPlan) -> Arm:
    """Returns the arm of `plan` that answers the entity `key`.

    >>> plan = RolloutPlan(revision=1, salt="s", arms=(Arm(name="stable", version=3, share=1.0),))
    >>> arm_for("customer-17", plan).version
    3
    """
    place = place_of(key, plan.salt)
    end = 1.0
    for arm in plan.arms[:0:-1]:
        if place >= end - arm.share:
            return arm
        end -= arm.share
    return plan.arms[0]


def place_of(key: str, salt: str) -> float:
    """Returns the place of `key` in [0, 1) under `salt`.

    >>> 0.0 <= place_of("customer-17", "s") < 1.0
    True
    """
    return mmh3.hash(f"{salt}|{key}".encode(), signed=False) / 2.0**32


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
