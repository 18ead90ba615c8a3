"""Hash-based sampling: a hash in [0, 1) assigns entities to arms, and selects random samples of events. Pure.

    entity key, salt of the plan --uniform_hash--> in the share of which arm? --arm_for--> Arm, for Kafka and HTTP
    secret, id of the event --keyed_uniform_hash--> below the share? --is_drawn--> in the sample, in every replay, too

The traffic split is a function of the plan and the key. The stable arm has the interval from 0. The other arms take
their shares from the end of [0, 1): first the last arm (newest, with a small fixed share), then the one before it. So
the assignment is sticky: when the candidate's share grows from 1 % to 5 % to 25 %, entities move from stable to
candidate, and never back.

Samples of events are drawn with a secret (keyed hash), so that nobody outside can predict them. Senders choose the ids
of their events, so without a secret they could choose which events are measured.
"""

from hashlib import blake2b
from typing import Final

import mmh3

from wire.records import Arm, RolloutPlan

AUDIT: Final = "audit"
"""The sample of events whose labels are always requested. Replicas and the rollout draw the same sample."""

PAIRED: Final = "paired"
"""The sample of events that the encoders of all arms encode."""

_BYTES: Final = 8


def arm_for(key: str, plan: RolloutPlan) -> Arm:
    """Returns the arm of `plan` that answers the entity `key`.

    >>> plan = RolloutPlan(revision=1, salt="s", arms=(Arm(name="stable", version=3, share=1.0),))
    >>> arm_for("customer-17", plan).version
    3
    """
    place = uniform_hash(key, plan.salt)
    end = 1.0
    # All arms but the stable one, from the last to the first.
    for arm in plan.arms[:0:-1]:
        if place >= end - arm.share:
            return arm
        end -= arm.share
    return plan.arms[0]


def uniform_hash(key: str, salt: str) -> float:
    """Returns the place of `key` in [0, 1) under `salt`.

    >>> 0.0 <= uniform_hash("customer-17", "s") < 1.0
    True
    """
    return mmh3.hash(f"{salt}|{key}".encode(), signed=False) / 2.0**32


def keyed_uniform_hash(secret: bytes, name: bytes) -> float:
    """Returns the place of `name` in [0, 1) under `secret`, which has at most 64 bytes.

    >>> 0.0 <= keyed_uniform_hash(b"secret", b"event-17") < 1.0
    True
    >>> keyed_uniform_hash(b"1", b"e") == keyed_uniform_hash(b"2", b"e")
    False
    """
    digest = blake2b(name, key=secret, digest_size=_BYTES).digest()
    # A float has 53 bits of precision.
    return (int.from_bytes(digest) >> 11) / 2.0**53


def is_drawn(secret: bytes, draw: str, event_id: str, share: float) -> bool:
    """Whether an event is in the random sample `draw` (AUDIT or PAIRED, which are independent) of this share of events.

    >>> is_drawn(b"secret", AUDIT, "event-17", 0.0), is_drawn(b"secret", AUDIT, "event-17", 1.0)
    (False, True)
    """
    return keyed_uniform_hash(secret, f"{draw} {event_id}".encode()) < share
