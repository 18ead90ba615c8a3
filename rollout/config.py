"""The settings of the rollout: the shares of the traffic that a new version gets, and the evidence that it needs."""

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
    """Shares of the entities that the candidate answers, step after step; the step after the last is its promotion. An
    entity that the candidate has answered stays with the candidate."""
    ramp_answers: Annotated[int, Ge(1), Le(1_000_000), INTERNAL] = 30
    """Answers that the candidate must have given at each step of the ramp before the next step."""
    newest_share: Annotated[float, Ge(0), Le(0.5)] = 0.05
    """Share of the entities that the newest version answers, whichever version it is."""
    approval: Literal["automatic", "by_hand"] = "automatic"
    """Whether a version becomes stable as soon as the evidence is for it, or only after `lifelong rollout approve`."""
    min_labels: Annotated[int, Ge(1), Le(1_000_000)] = 20
    """Labels that each arm must have before a decision about a candidate with another encoder."""
    margin: Annotated[float, Gt(0), Le(0.5)] = 0.05
    """Non-inferiority margin for a candidate whose encoder differs from the stable version's: it is promoted once it is
    shown to be worse by less than this (0.05: five percentage points). A candidate that is worse by half the margin is
    as likely to be promoted as to be withdrawn. Half the margin takes four times as many labels."""
    error: Annotated[float, Gt(0), Le(0.5)] = 0.01
    """Upper bound of both error probabilities for a candidate with another encoder: that it is promoted although it is
    worse by the margin, and that it is withdrawn although it is as good as the stable version."""
    source_share: Annotated[float, Gt(0), Le(1)] = 0.5
    """Largest share of the counted labels that one source may have if it floods while other sources label, too. 1: no
    limit."""
    max_unlabelled: Annotated[int, Ge(1), Le(100_000_000), INTERNAL] = 50_000
    """Largest number of answers that wait for a label without a receipt, and of such labels that wait for their answer.
    Waiting answers are thinned beyond it, older ones more."""
    lease_ms: Annotated[int, Ge(300), Le(600_000), INTERNAL] = 5_000
    """Time after which a waiting controller replaces one that does not renew its lease."""
    collect_interval_s: Annotated[float, Gt(0), Le(86_400), INTERNAL] = 30.0
    """Interval between two collections of versions that are no longer needed."""
    keep_versions: Annotated[int, Ge(1), Le(100_000)] = 16
    """Newest versions that are kept in addition to the versions of the plan."""
    keep_bytes: Annotated[int, Ge(1 << 20), Le(1 << 50)] = 256 << 20
    """Largest size of all kept versions, and never more than a quarter of the server's memory; fewer versions are kept
    if they would exceed it."""
    niceness: Annotated[int, Ge(0), Le(19), INTERNAL] = 10
    """Niceness added to the judge's thread, so that on a shared processor answers come before judging."""

    def __post_init__(self) -> None:
        rises = all(low < high for low, high in pairwise(self.ramp))
        room = 1.0 - self.newest_share
        require(
            (rises, "rollout.ramp must rise from step to step"),
            (self.ramp[-1] < room, "rollout.ramp and rollout.newest_share must leave a share for the stable version"),
        )
