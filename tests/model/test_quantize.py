"""Quantization of float weights: the error bound of rounding, and the weights that cannot be stored."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.errors import NonFinite, WrongShape
from model.grid import MAX_Q4
from model.nested import MAX_Q8
from model.qtensor import QTensor
from model.quantize import plain, quantize_n8g64, quantize_w4g64, quantize_w8c
from tests.model.test_qtensor import int4_weight, matrix

Quantize = Callable[..., QTensor]
SCHEMES = pytest.mark.parametrize(("quantize", "largest"), [(quantize_w8c, 127), (quantize_n8g64, MAX_Q8)])


@SCHEMES
@given(st.integers(1, 6), st.integers(1, 3), st.floats(1e-8, 1e5), st.integers(0, 1 << 30))
@settings(max_examples=80)
def test_rounding_is_within_half_a_scale(
    quantize: Quantize, largest: int, num_out: int, num_groups: int, size: float, seed: int
) -> None:
    w_NK = matrix(num_out, 64 * num_groups, seed=seed) * size
    stored = quantize("w", w_NK)
    half_scale_N1 = stored.parts["scale"].double()[:, None] / 2
    assert ((stored.dequantize().double() - w_NK.double()).abs() <= half_scale_N1 * (1 + 1e-5)).all()
    assert stored.q_NK.abs().max() <= largest
    assert torch.equal(stored.parts["ksum"], stored.q_NK.sum(dim=1).int())


@given(st.integers(1, 6), st.floats(1e-3, 1e3), st.integers(0, 1 << 30))
@settings(max_examples=40)
def test_int4_is_within_the_lower_nibble(num_out: int, size: float, seed: int) -> None:
    stored = quantize_n8g64("w", matrix(num_out, 128, seed=seed) * size)
    error_NK = (int4_weight(stored) - stored.dequantize()).abs()
    assert (error_NK <= 8.001 * stored.parts["scale"].float()[:, None]).all()


@given(st.integers(1, 6), st.integers(1, 3), st.floats(1e-7, 1e5), st.integers(0, 1 << 30))
@settings(max_examples=60)
def test_the_mse_start_of_int4_is_never_worse_than_the_largest_value(
    num_out: int, num_groups: int, size: float, seed: int
) -> None:
    """The error is at most that of one range for each row, or for each group: both are among the choices."""
    w_NK = matrix(num_out, 64 * num_groups, seed=seed) * size
    stored = quantize_w4g64("w", w_NK)
    scaled_NGK = (w_NK / stored.parts["scale"].float()[:, None]).view(num_out, -1, 64)
    largest_NG1 = scaled_NGK.abs().amax(dim=2, keepdim=True)
    error_NG = (stored.q_NK.float().view(num_out, -1, 64) - scaled_NGK).square().sum(dim=2)
    for m_NG1 in (torch.full_like(largest_NG1, 16.0), torch.ceil(largest_NG1 / 7).clamp(max=16)):
        rounded_NGK = torch.round(scaled_NGK / m_NG1).clamp(-8, 7) * m_NG1
        assert (error_NG <= (rounded_NGK - scaled_NGK).square().sum(dim=2) * (1 + 1e-5)).all()
    assert scaled_NGK.abs().max() <= MAX_Q4


def test_important_inputs_are_nearer_in_int4() -> None:
    w_NK = matrix(8, 64)
    gram_KK = torch.eye(64)
    gram_KK[:8] *= 100.0
    errors = []
    for stored in (quantize_w4g64("w", w_NK), quantize_w4g64("w", w_NK, gram_KK=gram_KK)):
        errors.append((stored.dequantize() - w_NK)[:, :8].square().sum())
    assert errors[1] < errors[0]


@given(st.lists(st.integers(-6, 6), min_size=64, max_size=64), st.integers(0, 1 << 30))
@settings(max_examples=40)
def test_the_weight_is_divided_by_in_scale(exponents: list[int], seed: int) -> None:
    w_NK = matrix(3, 64, seed=seed)
    in_scale_K = torch.exp2(torch.tensor(exponents))
    stored = quantize_n8g64("w", w_NK, in_scale_K=in_scale_K)
    assert torch.equal(stored.q_NK, quantize_n8g64("w", w_NK / in_scale_K).q_NK)
    assert ((stored.dequantize() - w_NK).abs() <= stored.parts["scale"].float()[:, None] * in_scale_K * 0.50001).all()
    assert quantize_n8g64("w", stored.dequantize(), in_scale_K=in_scale_K).to_blob() == stored.to_blob()


@SCHEMES
def test_quantizing_is_idempotent(quantize: Quantize, largest: int) -> None:
    stored = quantize("w", matrix(3, 64))
    assert quantize("w", stored.dequantize()).to_blob() == stored.to_blob()


@SCHEMES
def test_zero_rows_are_exact(quantize: Quantize, largest: int) -> None:
    assert torch.equal(quantize("w", torch.zeros(2, 64)).dequantize(), torch.zeros(2, 64))


def test_any_width_fits_w8c() -> None:
    assert quantize_w8c("w", matrix(3, 5)).shape == (3, 5)


def test_stored_parts_do_not_follow_the_trained_tensor() -> None:
    value = torch.ones(2, 64)
    bias = torch.ones(2)
    norm = plain("n", value)
    layers = [quantize("w", value, bias) for quantize in (quantize_w8c, quantize_n8g64, quantize_w4g64)]
    value.zero_()
    bias.zero_()
    assert norm.parts["value"].min() == 1
    assert all(layer.parts["bias"].min() == 1 for layer in layers)


REFUSING = pytest.mark.parametrize("quantize", [quantize_w8c, quantize_n8g64, quantize_w4g64])


@REFUSING
@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e9])
def test_weights_that_cannot_be_stored(quantize: Quantize, value: float) -> None:
    w_NK = torch.zeros(1, 64)
    w_NK[0, 1] = value
    with pytest.raises(NonFinite, match=r"layers\.0\.out\.scale has a value that is not finite"):
        quantize("layers.0.out", w_NK)


def test_plain_refuses_nan() -> None:
    with pytest.raises(NonFinite):
        plain("embed.norm", torch.tensor([torch.nan]))


@REFUSING
@pytest.mark.parametrize(("w_NK", "bias_N"), [(torch.zeros(4), None), (torch.zeros(2, 64), torch.zeros(3))])
def test_quantize_refuses_shapes(quantize: Quantize, w_NK: Tensor, bias_N: Tensor | None) -> None:
    with pytest.raises(WrongShape, match=r"expected \[N, K\].* and \[N\]"):
        quantize("w", w_NK, bias_N)


def test_groups_must_be_whole() -> None:
    with pytest.raises(WrongShape, match=r"w: weight \(2, 96\) .* K a multiple of 64"):
        quantize_n8g64("w", torch.zeros(2, 96))
