"""How new weights reach traffic: the share they begin with, and the evidence that is asked for."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutConfig:
    """The rollout controller."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    candidate_share: Annotated[float, Gt(0), Le(0.99)] = 0.2
    """Share of the entities that the newest version answers until it is promoted. Not all of them: without answers of
    the stable version there is nothing to compare with."""
    min_labels: Annotated[int, Ge(1), Le(1_000_000)] = 20
    """Labels that either arm must have before anything is decided, whatever they say."""
    margin: Annotated[float, Gt(0), Le(0.5)] = 0.05
    """How much worse a candidate must be shown not to be before it is promoted: 0.05 is five points of a hundred. One
    that is worse by half of it is as likely to be withdrawn; half the margin takes four times as many labels."""
    error: Annotated[float, Gt(0), Le(0.5)] = 0.01
    """How likely a candidate that is worse by the margin may be to be promoted ever, and one that is as good as the
    stable version to be withdrawn ever, at most."""
    source_share: Annotated[float, Gt(0), Le(1)] = 0.5
    """Largest share of the labels that count for or against an arm which one source gets while it floods and others
    label, too. 1: all."""
    max_unlabelled: Annotated[int, Ge(1), Le(100_000_000)] = 50_000
    """Answers that wait for their label, of which the older are thinned, and labels that wait for their answer."""
    lease_ms: Annotated[int, Ge(300), Le(600_000)] = 5_000
    """A controller not heard of for this long is replaced by another one that waits."""
    collect_interval_s: Annotated[float, Gt(0), Le(86_400)] = 30.0
    """Pause between two removals of versions that nobody needs."""
    keep_versions: Annotated[int, Ge(1), Le(100_000)] = 16
    """Newest versions that are kept besides those that answer traffic. Of those whose answers wait for labels, as many
    for each doubling of their age."""
    keep_bytes: Annotated[int, Ge(1 << 20), Le(1 << 50)] = 256 << 20
    """Bytes of all versions that are kept, at most a quarter of the server's memory: beyond it fewer are kept."""
    niceness: Annotated[int, Ge(0), Le(19)] = 10
    """Added to the priority number of the process: where they share a processor, answers go before judging them."""
