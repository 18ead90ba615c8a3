"""Autoscaling policy: more replicas while events wait in Kafka, fewer while the models are mostly idle.

    each replica: {lag, busy} --Serve's controller, every few seconds--> LagPolicy --> replicas_wanted --> Serve

A lag shows that there are too few replicas. If there are too many, the models compute for a small share of the time.
The lag cannot show that, because it is 0 both for busy replicas that keep up and for idle ones. Serve keeps the number
of replicas within the bounds, and changes it only after the policy has asked for the change for a while. Serve sends
the policy to its controller by value, so the controller need not import our modules.

Rejected: scaling by requests, which Serve counts itself (it does not see events from Kafka), and our own consumer in
the controller (the replicas know their lag).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from annotated_types import Ge, Le

from wire.sections import INTERNAL, SECTION

BUSY_SHARE: Final = 0.6
"""Largest share of time in which the models of the remaining replicas may compute after a replica was removed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScalingConfig:
    """Autoscaling of the replicas by Kafka's lag."""

    __pydantic_config__ = SECTION

    max_replicas: Annotated[int, Ge(0), Le(1_024)] = 0
    """Upper bound of autoscaling: while events wait in Kafka, replicas are added to `serving.replicas` up to this
    number. Replicas beyond the topic's number of partitions have nothing to read. 0: always `serving.replicas`."""
    lag_per_replica: Annotated[int, Ge(1), Le(1_000_000_000)] = 1_000
    """Largest number of events that may wait in Kafka for each replica. Beyond it there are too few replicas."""
    up_after_s: Annotated[float, Ge(0), Le(86_400), INTERNAL] = 15.0
    """How long there must be too few replicas before more are started."""
    down_after_s: Annotated[float, Ge(0), Le(86_400), INTERNAL] = 300.0
    """How long there must be too many replicas before some are stopped."""


def replicas_wanted(lag: float, busy: float, *, current: int, lag_per_replica: int) -> int:
    """Returns the number of replicas that there should be.

    `lag` is the number of events that wait in Kafka. `busy` is the sum, over the replicas, of the share of time in
    which the model computes. The result is at most twice `current`, because the lag of a burst is gone before more
    replicas could start.

    >>> [replicas_wanted(lag, busy=0.9, current=2, lag_per_replica=100) for lag in (0, 200, 250, 5_000)]
    [2, 2, 3, 4]
    >>> replicas_wanted(0, busy=0.5, current=2, lag_per_replica=100)
    1
    """
    if lag > current * lag_per_replica:
        return min(math.ceil(lag / lag_per_replica), 2 * current)
    return min(current, max(1, math.ceil(busy / BUSY_SHARE)))


class LagPolicy:
    """A policy for Serve's autoscaler, which calls it with an `AutoscalingContext`."""

    def __init__(self, *, lag_per_replica: int) -> None:
        self._lag_per_replica = lag_per_replica

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """Returns the number of replicas and the policy's state, which is empty."""
        measured: Mapping[str, Mapping[Any, float]] = context.aggregated_metrics or {}
        lags = measured.get("lag", {})
        current = context.current_num_replicas
        # A replica that has just started, or hangs, has not reported: change nothing.
        if current == 0 or len(lags) < current:
            return context.target_num_replicas, {}
        busy = sum(measured.get("busy", {}).values())
        lag = sum(lags.values())
        return replicas_wanted(lag, busy, current=current, lag_per_replica=self._lag_per_replica), {}
