"""Hash-based sampling: hashes in [0, 1) assign entities to arms, and select random samples of events. Pure.

    entity key, salt of the plan --uniform_hash--> point in [0, 1) --arm_for--> the arm whose interval has the point
    secret, id of the event --keyed_uniform_hash--> point in [0, 1) --is_drawn--> in the sample if below the share

The traffic split is a function of the plan and the key. The stable arm has the interval that begins at 0. The intervals
of the other arms are at the end of [0, 1): the newest arm, with a small fixed share, comes last, and the candidate
before it. So the assignment is sticky: when the candidate's share grows from 1 % to 5 % to 25 %, entities move from
stable to candidate, and never back.

Samples of events are drawn with a secret (keyed hash). Senders choose the ids of their events, so without a secret they
could choose which events are in a sample. The same event is drawn again in every replay.
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
    point = uniform_hash(key, plan.salt)
    end = 1.0
    # All arms but the stable one, from the last to the first.
    for arm in plan.arms[:0:-1]:
        if point >= end - arm.share:
            return arm
        end -= arm.share
    return plan.arms[0]


def uniform_hash(key: str, salt: str) -> float:
    """Returns the hash of `key` under `salt`, as a number in [0, 1).

    >>> 0.0 <= uniform_hash("customer-17", "s") < 1.0
    True
    """
    return mmh3.hash(f"{salt}|{key}".encode(), signed=False) / 2.0**32


def keyed_uniform_hash(secret: bytes, name: bytes) -> float:
    """Returns the keyed hash of `name`, as a number in [0, 1). `secret` has at most 64 bytes.

    >>> 0.0 <= keyed_uniform_hash(b"secret", b"event-17") < 1.0
    True
    >>> keyed_uniform_hash(b"1", b"e") == keyed_uniform_hash(b"2", b"e")
    False
    """
    digest = blake2b(name, key=secret, digest_size=_BYTES).digest()
    # A float has 53 bits of precision.
    return (int.from_bytes(digest) >> 11) / 2.0**53


def is_drawn(secret: bytes, draw: str, event_id: str, share: float) -> bool:
    """Whether an event is in the random sample `draw`, which has this share of the events.

    `draw` is AUDIT or PAIRED. The two samples are independent.

    >>> is_drawn(b"secret", AUDIT, "event-17", 0.0), is_drawn(b"secret", AUDIT, "event-17", 1.0)
    (False, True)
    """
    return keyed_uniform_hash(secret, f"{draw} {event_id}".encode()) < share
