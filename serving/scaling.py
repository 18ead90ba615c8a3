"""How many replicas there should be: more while events wait in Kafka, fewer while the models have little to do.

    each replica: {lag, busy} --Serve's controller, every few seconds--> LagPolicy --> replicas_wanted --> Serve

The lag says when there are too few replicas, and the share of the time in which models compute when there are too many:
with a lag of nothing, all of them may be needed. Serve waits until the answer has been the same for a while, and keeps
it within the bounds. Serve carries the policy to its controller by value, so that it needs nothing of ours.

Rejected: requests as the measure, which Serve counts itself (it does not see events), a consumer of our own in the
controller (the replicas know their lag), and the lag alone (a number of replicas that just keeps up has none).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from annotated_types import Ge, Le

from wire.sections import INTERNAL, SECTION

BUSY_SHARE: Final = 0.6
"""Share of the time in which the models of the replicas that stay may compute, after one was removed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScalingConfig:
    """The number of replicas by the lag of Kafka."""

    __pydantic_config__ = SECTION

    max_replicas: Annotated[int, Ge(0), Le(1_024)] = 0
    """Most replicas: from `serving.replicas` on, so many are started as long as events wait in Kafka. More than the
    topic has partitions have nothing to read. 0: always `serving.replicas`."""
    lag_per_replica: Annotated[int, Ge(1), Le(1_000_000_000)] = 1_000
    """Events that wait in Kafka for each replica, beyond which there are too few replicas."""
    up_after_s: Annotated[float, Ge(0), Le(86_400), INTERNAL] = 15.0
    """How long there must be too few before others are started."""
    down_after_s: Annotated[float, Ge(0), Le(86_400), INTERNAL] = 300.0
    """How long there must be too many before some are stopped."""


def replicas_wanted(lag: float, busy: float, *, current: int, lag_per_replica: int) -> int:
    """Returns how many replicas there should be. `busy` is the sum of the shares of time in which models compute.

    At most twice as many as now: the lag of a burst is gone by the time that more could start.

    >>> [replicas_wanted(lag, busy=0.9, current=2, lag_per_replica=100) for lag in (0, 200, 250, 5_000)]
    [2, 2, 3, 4]
    >>> replicas_wanted(0, busy=0.5, current=2, lag_per_replica=100)
    1
    """
    if lag > current * lag_per_replica:
        return min(math.ceil(lag / lag_per_replica), 2 * current)
    return min(current, max(1, math.ceil(busy / BUSY_SHARE)))


class LagPolicy:
    """The policy of Serve's autoscaler, which calls it with an `AutoscalingContext`."""

    def __init__(self, *, lag_per_replica: int) -> None:
        self._lag_per_replica = lag_per_replica

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """Returns the number of replicas, and a state of its own, which it does not need."""
        measured: Mapping[str, Mapping[Any, float]] = context.aggregated_metrics or {}
        lags = measured.get("lag", {})
        current = context.current_num_replicas
        if current == 0 or len(lags) < current:  # one that has just started, or hangs, has said nothing
            return context.target_num_replicas, {}
        busy = sum(measured.get("busy", {}).values())
        lag = sum(lags.values())
        return replicas_wanted(lag, busy, current=current, lag_per_replica=self._lag_per_replica), {}
