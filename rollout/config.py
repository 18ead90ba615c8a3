"""The settings of the rollout: the share that new weights begin with, and the evidence that is required."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le

from wire.config import SECTION


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutConfig:
    """The rollout controller."""

    __pydantic_config__ = SECTION

    candidate_share: Annotated[float, Gt(0), Le(0.99)] = 0.2
    """Share of the entities that the candidate answers until it is promoted. Not all: without answers of the
    stable version there is nothing to compare with."""
    min_labels: Annotated[int, Ge(1), Le(1_000_000)] = 20
    """Labels that each arm must have before anything is decided, whatever they say."""
    margin: Annotated[float, Gt(0), Le(0.5)] = 0.05
    """A candidate is promoted once it is shown not to be worse than the stable version by this: 0.05 is five points of
    a hundred. One that is worse by half of it is as likely to be withdrawn; half the margin takes four times as many
    labels."""
    error: Annotated[float, Gt(0), Le(0.5)] = 0.01
    """Upper bound of both error probabilities: that a candidate worse by the margin is ever promoted, and that one as
    good as the stable version is ever withdrawn."""
    source_share: Annotated[float, Gt(0), Le(1)] = 0.5
    """Largest share of the labels that count for or against an arm and come from one source, while it floods and others
    label, too. 1: all."""
    max_unlabelled: Annotated[int, Ge(1), Le(100_000_000)] = 50_000
    """Answers that wait for their label, thinned the more the older they are, and labels that wait for their answer."""
    lease_ms: Annotated[int, Ge(300), Le(600_000)] = 5_000
    """Time after which a silent controller is replaced by a waiting one."""
    collect_interval_s: Annotated[float, Gt(0), Le(86_400)] = 30.0
    """Interval between two collections of versions that nobody needs."""
    keep_versions: Annotated[int, Ge(1), Le(100_000)] = 16
    """Newest versions that are kept besides those that answer traffic. The same number is kept for each doubling of age
    among the versions whose answers wait for labels."""
    keep_bytes: Annotated[int, Ge(1 << 20), Le(1 << 50)] = 256 << 20
    """Bytes of all kept versions, at most a quarter of the server's memory; fewer versions are kept beyond it."""
    niceness: Annotated[int, Ge(0), Le(19)] = 10
    """Niceness that is added to the process: on a shared processor, answers go before judging them."""
