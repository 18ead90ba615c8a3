"""Settings of the replicas that contradict each other are refused together."""

import pytest

from serving.config import ServingConfig
from serving.scaling import ScalingConfig


def test_the_most_replicas_are_not_fewer_than_the_first() -> None:
    assert ServingConfig(replicas=4, scaling=ScalingConfig(max_replicas=4)).scaling.max_replicas == 4
    with pytest.raises(ValueError, match=r"serving\.scaling\.max_replicas must not be below serving\.replicas"):
        ServingConfig(replicas=4, scaling=ScalingConfig(max_replicas=3))
    assert ServingConfig(replicas=4).scaling.max_replicas == 0
