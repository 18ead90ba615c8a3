"""Grids: values that are rounded to a grid can be stored on it, and LSQ's gradients equal the formula."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.linear_i4.reference import GROUP, high_plane
from model.errors import NonFinite
from model.grid import Grid, find_grid, lsq_gradient, round_to
from model.linears import ScaledLinear, TiedScaledLinear
from model.quantize import quantize_n8g64, quantize_on, quantize_w4g64
from tests.model.test_qtensor import are_equal, matrix

SCHEMES = pytest.mark.parametrize("quantize", [quantize_n8g64, quantize_w4g64], ids=["n8g64", "w4g64"])
SEEDS = st.integers(0, 1 << 30)


def moved(w_NK: Tensor, *, seed: int, size: float = 0.3) -> Tensor:
    return w_NK + size * matrix(*w_NK.shape, seed=seed + 1)


@SCHEMES
def test_a_stored_weight_lies_on_its_grid(quantize: type) -> None:
    stored = quantize("w", matrix(5, 128), torch.ones(5))
    again = quantize_on("w", Grid.from_tensor(stored), stored.dequantize(), torch.ones(5))
    assert torch.equal(again.q_NK, stored.q_NK)
    assert are_equal(again, stored)


@SCHEMES
@given(st.integers(1, 4), st.integers(1, 2), st.floats(0, 3), SEEDS)
@settings(max_examples=40)
def test_weights_that_moved_are_still_planes(
    quantize: type, num_out: int, num_groups: int, size: float, seed: int
) -> None:
    w_NK = matrix(num_out, GROUP * num_groups, seed=seed)
    grid = Grid.from_tensor(quantize("w", w_NK))
    with torch.no_grad():
        grid.shift_N.add_(torch.linspace(-1, 1, num_out))
    w_NK = moved(w_NK, seed=seed, size=size)
    stored = quantize_on("w", grid, w_NK)
    assert torch.equal(stored.q_NK, round_to(grid, w_NK))
    assert torch.equal(stored.parts["m"], grid.m_NG)
    if "lo" in stored.parts:  # INT4 is the rounded high plane of INT8
        q4_NK = high_plane(stored.parts["hi"], stored.parts["m"]).int()
        lo_NK = stored.q_NK.int() - q4_NK
        assert lo_NK.min() >= -8 and lo_NK.max() <= 7


@SCHEMES
def test_no_value_of_the_grid_is_nearer(quantize: type) -> None:
    grid = Grid.from_tensor(quantize("w", matrix(3, 128)))
    w_NK = moved(matrix(3, 128), seed=7)
    scale_N1 = grid.scale_N.float()[:, None]
    error_NK = (round_to(grid, w_NK) * scale_N1 - w_NK).abs()
    for change in (-1, 1):
        other_NK = round_to(grid, w_NK + change * scale_N1 * grid.m_NG.repeat_interleave(GROUP, dim=1))
        assert (error_NK <= (other_NK * scale_N1 - w_NK).abs() + 1e-6).all()


@SCHEMES
@given(SEEDS)
@settings(max_examples=20)
def test_gradients_are_those_of_lsq(quantize: type, seed: int) -> None:
    """Equation 3 of the paper, value by value, and the factor of section 2.2."""
    w_NK = matrix(2, 64, seed=seed)
    grid = Grid.from_tensor(quantize("w", w_NK))
    w_NK = moved(w_NK, seed=seed, size=1.0)
    grad_NK = matrix(2, 64, seed=seed + 2)
    q_NK = round_to(grid, w_NK)
    grad_w_NK, grad_shift_N = lsq_gradient(grid, w_NK, q_NK, grad_NK)
    is_int4 = grid.scheme == "w4g64"
    for row in range(2):
        scale = float(grid.scale_N[row])
        m = int(grid.m_NG[row, 0])
        step = m if is_int4 else 1
        low, high = (-8 * m, 7 * m) if is_int4 else (max(-8 * (m + 1), -119), min(7 * (m + 1), 119))
        by_scale = 0.0
        for w, q, grad, grad_w in zip(*(each[row].tolist() for each in (w_NK, q_NK, grad_NK, grad_w_NK)), strict=True):
            v = w / scale
            nearest = round(v / step) * step
            nearest_bound = low if v < low else high
            is_inside = low <= v <= high
            by_scale += grad * (nearest - v if is_inside else nearest_bound)
            assert grad_w == (grad if is_inside else 0.0)
            assert q == (nearest if is_inside else nearest_bound)
        by_log2 = by_scale * scale * math.log(2) / math.sqrt(64 * grid.largest)
        assert float(grad_shift_N[row]) == pytest.approx(by_log2, rel=1e-3, abs=1e-4)


def test_a_step_against_the_gradient_of_the_scale_lowers_the_error() -> None:
    w_NK = matrix(4, 128)
    grid = Grid.from_tensor(quantize_w4g64("w", 0.8 * w_NK))
    errors = []
    for _ in range(60):
        q_NK = round_to(grid, w_NK)
        error_NK = q_NK * grid.scale_N.float()[:, None] - w_NK
        errors.append(error_NK.square().sum())
        _, grad_shift_N = lsq_gradient(grid, w_NK, q_NK, error_NK)
        with torch.no_grad():
            grid.shift_N.sub_(0.02 * grad_shift_N.sign())
    assert errors[-1] < 0.8 * errors[0]


def test_a_tied_layer_has_the_grid_of_its_bank() -> None:
    bank = ScaledLinear(64, 8)
    tied = TiedScaledLinear(bank)
    assert find_grid(tied) is None
    bank.grid = Grid.from_tensor(quantize_w4g64("w", bank.weight))
    assert find_grid(tied) is bank.grid
    assert "grid" not in dict(tied.named_children())


@SCHEMES
def test_what_is_not_finite_is_refused(quantize: type) -> None:
    grid = Grid.from_tensor(quantize("w", matrix(2, 64)))
    with pytest.raises(NonFinite, match=r"w\.weight has a value that is not finite"):
        quantize_on("w", grid, torch.full((2, 64), torch.nan))
    with torch.no_grad():
        grid.shift_N.fill_(40.0)
    with pytest.raises(NonFinite, match=r"w\.scale has a value that is not finite"):
        quantize_on("w", grid, matrix(2, 64))
