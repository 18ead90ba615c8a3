"""The settings of the rollout: its ramp rises, and leaves a share for the stable version."""

import pytest
from pydantic import TypeAdapter

from rollout.config import Ramp, RolloutConfig


def test_a_ramp_may_be_given_as_text() -> None:
    assert TypeAdapter[tuple[float, ...]](Ramp).validate_python("[0.1, 0.5]") == (0.1, 0.5)


@pytest.mark.parametrize("ramp", [(0.2, 0.1), (0.1, 0.1)])
def test_a_ramp_that_does_not_rise_is_refused(ramp: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"rollout\.ramp must rise"):
        RolloutConfig(ramp=ramp)


def test_the_stable_version_keeps_a_share() -> None:
    with pytest.raises(ValueError, match="leave a share for the stable version"):
        RolloutConfig(ramp=(0.1, 0.6), newest_share=0.4)
