"""GPTQ: both planes are nibbles, and the error on inputs like the calibrated ones is smaller."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.errors import NonFinite
from model.nested import MAX_Q8, split
from model.qtensor import QTensor
from model.quantize import gptq_round, quantize_n8g64, quantize_w4g64
from tests.model.test_qtensor import int4_weight


def inputs(num_rows: int, num_in: int, *, seed: int = 0) -> Tensor:
    """Returns rows whose columns are correlated, as the activations of a network are."""
    generator = torch.Generator().manual_seed(seed)
    mix_CK = torch.randn(8, num_in, generator=generator)
    return torch.randn(num_rows, 8, generator=generator) @ mix_CK + 0.3 * torch.randn(
        num_rows, num_in, generator=generator
    )


def matrix(num_out: int, num_in: int, *, seed: int = 0) -> Tensor:
    return torch.randn(num_out, num_in, generator=torch.Generator().manual_seed(seed + 1))


@given(st.integers(1, 6), st.integers(1, 3), st.floats(0.1, 130), st.integers(0, 1 << 20))
@settings(max_examples=40)
def test_planes_fit(num_out: int, num_groups: int, size: float, seed: int) -> None:
    w_NK = (matrix(num_out, 64 * num_groups, seed=seed) * size).clamp(-MAX_Q8, MAX_Q8)
    x_MK = inputs(50, 64 * num_groups, seed=seed)
    m_NK = split(torch.round(w_NK).to(torch.int8))[2].repeat_interleave(64, dim=1)
    q8_NK, hi_NK = gptq_round(w_NK, m_NK, x_MK.t() @ x_MK / 50)
    lo_NK = q8_NK.int() - m_NK.int() * hi_NK.int()
    assert q8_NK.abs().max() <= MAX_Q8
    for nibble_NK in (hi_NK, lo_NK):
        assert nibble_NK.min() >= -8
        assert nibble_NK.max() <= 7


def test_both_precisions_err_less_on_such_inputs() -> None:
    w_NK = matrix(48, 256)
    x_MK = inputs(500, 256)
    compensated = quantize_n8g64("w", w_NK, gram_KK=x_MK.t() @ x_MK / 500)
    nearest = quantize_n8g64("w", w_NK)
    new_MK = inputs(200, 256)  # other rows from the same distribution
    for dequantize, share in ((QTensor.dequantize, 0.5), (int4_weight, 0.7)):
        errors = [(new_MK @ (dequantize(tensor) - w_NK).t()).norm() for tensor in (compensated, nearest)]
        assert errors[0] < share * errors[1]


def test_int4_alone_errs_less_on_such_inputs() -> None:
    """INT4 alone has a smaller error than INT4 inside an INT8 weight, which must fit the INT8 weight."""
    w_NK = matrix(48, 256)
    x_MK = inputs(500, 256)
    gram_KK = x_MK.t() @ x_MK / 500
    new_MK = inputs(200, 256)
    weights_NK = [quantize_w4g64("w", w_NK, gram_KK=gram_KK).dequantize(), quantize_w4g64("w", w_NK).dequantize()]
    weights_NK.append(int4_weight(quantize_n8g64("w", w_NK, gram_KK=gram_KK)))
    compensated, nearest, nested = ((new_MK @ (each_NK - w_NK).t()).norm() for each_NK in weights_NK)
    assert compensated < 0.7 * nearest
    assert compensated < nested


def test_uncorrelated_inputs_are_rounded_to_the_nearest() -> None:
    w_NK = matrix(5, 128)
    compensated = quantize_n8g64("w", w_NK, gram_KK=torch.eye(128))
    nearest = quantize_n8g64("w", w_NK)
    assert torch.equal(compensated.q_NK, nearest.q_NK)
    assert (int4_weight(compensated) - w_NK).norm() <= (int4_weight(nearest) - w_NK).norm()


@pytest.mark.parametrize("gram_KK", [torch.zeros(64, 64), torch.ones(64, 64)])
def test_a_singular_gram_matrix_does_no_harm(gram_KK: Tensor) -> None:
    w_NK = matrix(5, 64)
    stored = quantize_n8g64("w", w_NK, gram_KK=gram_KK)
    assert (stored.dequantize() - w_NK).norm() < 0.1 * w_NK.norm()


def test_weights_that_cannot_be_stored_are_refused_all_the_same() -> None:
    w_NK = matrix(2, 64)
    w_NK[0, 0] = torch.nan
    with pytest.raises(NonFinite):
        quantize_n8g64("w", w_NK, gram_KK=torch.eye(64))
