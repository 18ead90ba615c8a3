"""Checks the slope; `test_sparse_attention_times.py` times both attentions."""

import pytest

from bench.sparse_attention import slope


@pytest.mark.parametrize("power", [1, 2])
def test_the_slope_is_the_power_of_the_length(power: int) -> None:
    assert slope({length: float(length**power) for length in (1024, 2048, 4096, 8192)}) == pytest.approx(power)
