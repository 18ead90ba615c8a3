"""The settings of the rollout: the steps by which new weights get their traffic, and the evidence that is required."""

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal, TypeAlias

from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from pydantic import BeforeValidator

from wire.config import SECTION, require
from wire.sections import INTERNAL

Ramp: TypeAlias = Annotated[
    tuple[Annotated[float, Gt(0), Le(0.99)], ...],
    MinLen(1),
    MaxLen(20),
    BeforeValidator(lambda value: json.loads(value) if isinstance(value, str) else value),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutConfig:
    """The rollout controller."""

    __pydantic_config__ = SECTION

    ramp: Ramp = (0.01, 0.05, 0.25)
    """Shares of the entities that the candidate answers, one after another; promotion is the last step. An entity that
    has come to the candidate stays with it."""
    ramp_answers: Annotated[int, Ge(1), Le(1_000_000), INTERNAL] = 30
    """Answers that the candidate must have given at each step of the ramp before the next one."""
    newest_share: Annotated[float, Ge(0), Le(0.5)] = 0.05
    """Share of the entities that the newest version answers, whatever it is."""
    approval: Literal["automatic", "by_hand"] = "automatic"
    """Whether a version that the evidence is for becomes stable at once, or only after `lifelong rollout approve`."""
    min_labels: Annotated[int, Ge(1), Le(1_000_000)] = 20
    """Labels that each arm must have before a candidate with another encoder is decided on, whatever they say."""
    margin: Annotated[float, Gt(0), Le(0.5)] = 0.05
    """A candidate with another encoder than the stable version is promoted once it is shown not to be worse by this:
    0.05 is five points of a hundred. One that is worse by half of it is as likely to be withdrawn; half the margin
    takes four times as many labels."""
    error: Annotated[float, Gt(0), Le(0.5)] = 0.01
    """Upper bound of both error probabilities of a candidate with another encoder: that one worse by the margin is ever
    promoted, and that one as good as the stable version is ever withdrawn."""
    source_share: Annotated[float, Gt(0), Le(1)] = 0.5
    """Largest share of the counted labels that one source has, while it floods and others label, too. 1: all."""
    max_unlabelled: Annotated[int, Ge(1), Le(100_000_000), INTERNAL] = 50_000
    """Answers that wait for a label without a receipt, thinned the more the older they are, and such labels that wait
    for their answer."""
    lease_ms: Annotated[int, Ge(300), Le(600_000), INTERNAL] = 5_000
    """Time after which a silent controller is replaced by a waiting one."""
    collect_interval_s: Annotated[float, Gt(0), Le(86_400), INTERNAL] = 30.0
    """Interval between two collections of versions that nobody needs."""
    keep_versions: Annotated[int, Ge(1), Le(100_000)] = 16
    """Newest versions that are kept besides those of the plan."""
    keep_bytes: Annotated[int, Ge(1 << 20), Le(1 << 50)] = 256 << 20
    """Bytes of all kept versions, at most a quarter of the server's memory; fewer versions are kept beyond it."""
    niceness: Annotated[int, Ge(0), Le(19), INTERNAL] = 10
    """Niceness that is added to the thread that judges: on a shared processor, answers go before judging them."""

    def __post_init__(self) -> None:
        rises = all(low < high for low, high in pairwise(self.ramp))
        room = 1.0 - self.newest_share
        require(
            (rises, "rollout.ramp must rise from step to step"),
            (self.ramp[-1] < room, "rollout.ramp and rollout.newest_share must leave a share for the stable version"),
        )
