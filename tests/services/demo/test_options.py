"""Tests the options of a run."""

import pytest

from services.demo.options import DemoOptions


@pytest.mark.parametrize("rate", [0.0, -1.0])
def test_a_rate_must_be_above_nothing(rate: float) -> None:
    with pytest.raises(ValueError, match=f"rate is {rate}: give events a second, above 0"):
        DemoOptions(rate=rate)


@pytest.mark.parametrize("delay", [(2.0, 1.0), (-1.0, 1.0)])
def test_delays_must_be_a_range(delay: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="give two seconds, the smaller one first"):
        DemoOptions(label_delay_s=delay)
