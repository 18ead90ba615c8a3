"""The traffic split: which arm answers an entity, as a pure function of the plan and the key, for Kafka and HTTP.

An entity's place on the unit interval is `mmh3(salt | key) / 2^32`. The stable arm owns the interval from 0; the other
arms take their shares from the end, the last one (newest, of a small fixed share) first. So the assignment is sticky: a
ramp of the candidate from 1 % to 5 % to 25 % moves entities from stable to candidate, and never back.
"""

import mmh3

from wire.records import Arm, RolloutPlan


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
