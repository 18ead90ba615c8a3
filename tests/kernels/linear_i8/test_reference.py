"""The definition of the INT8 linear layer, against arithmetic in double precision."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.linear_i8 import reference
from tests.kernels import tolerances
from tests.kernels.linear_i8.layers import rows, weight


@given(st.integers(1, 40), st.integers(1, 6), st.floats(1e-6, 1e6), st.integers(0, 1 << 30))
@settings(max_examples=60)
def test_rows_are_within_half_a_quantization_step(num_in: int, num_rows: int, size: float, seed: int) -> None:
    x_MK = rows(num_rows, num_in, seed=seed) * size
    q_MK, scale_M1, min_M1 = reference.quantize_rows(x_MK)
    found_MK = min_M1.double() + scale_M1.double() * q_MK.double()
    tolerances.assert_within(found_MK, x_MK.double(), tolerances.half_step(scale_M1) + reference.EPSILON)


def test_a_constant_row_is_exact() -> None:
    layer = weight(3, 8)
    x_MK = torch.full((1, 8), 5.0)
    exact = 5.0 * (layer.q_NK.double().sum(dim=1) * layer.scale_N.double()) + layer.bias_N.double()
    tolerances.assert_within(reference.linear(x_MK, layer)[0], exact, tolerances.epilogue(x_MK, layer)[0])


def test_result_is_near_the_float_product() -> None:
    """The error is at most half a quantization step of every input, plus the epilogue's error: the sums are exact."""
    layer = weight(64, 384)
    x_MK = rows(50, 384)
    _, scale_M1, _ = reference.quantize_rows(x_MK)
    w_NK = layer.q_NK.double() * layer.scale_N.double()[:, None]
    exact_MN = x_MK.double() @ w_NK.t() + layer.bias_N.double()
    bound_MN = tolerances.half_step(scale_M1) * w_NK.abs().sum(dim=1) + tolerances.epilogue(x_MK, layer)
    tolerances.assert_within(reference.linear(x_MK, layer), exact_MN, bound_MN)
