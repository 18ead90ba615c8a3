"""The definitions of the convolution: Winograd's filtering is the direct convolution, and exactly so in integers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from kernels.conv2d import reference
from kernels.conv2d.reference import MAX_CHANNELS
from kernels.linear_i8 import reference as linear
from tests.kernels import tolerances
from tests.kernels.conv2d.images import extreme_images, filters, images, integer_filters

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9))
"""B, C, O, H, W."""


@pytest.mark.parametrize("tile", [2, 4])
@given(SIZES, st.integers(0, 1 << 30))
@settings(max_examples=60)
def test_winograd_is_the_direct_convolution(tile: int, size: tuple[int, int, int, int, int], seed: int) -> None:
    num_images, num_in, num_out, height, width = size
    x_BCHW = images(num_images, num_in, height, width, seed=seed).double()
    w_OC33 = filters(num_out, num_in, seed=seed)[0].double()
    direct = reference.conv2d(x_BCHW, w_OC33)
    assert (reference.winograd(x_BCHW, w_OC33, tile) - direct).abs().max() <= 1e-12 * (1 + direct.abs().max())


@pytest.mark.parametrize(("tile", "fewer"), [(2, 2.25), (4, 4.0)])
def test_winograd_multiplies_less(tile: int, fewer: float) -> None:
    x_BCIJ = torch.zeros(1, 3, 10, 18)
    u_POC = reference.transform_filters(torch.zeros(5, 3, 3, 3), tile)
    v_PCT = reference.transform_images(x_BCIJ, tile)
    num_products = u_POC.shape[0] * u_POC.shape[1] * u_POC.shape[2] * v_PCT.shape[2]
    assert 8 * 16 * 9 * 3 * 5 / num_products == fewer


@given(SIZES, st.integers(0, 1 << 30))
@settings(max_examples=60)
def test_integer_winograd_is_exact(size: tuple[int, int, int, int, int], seed: int) -> None:
    num_images, num_in, num_out, height, width = size
    q_BCIJ, _, _ = reference.quantize_images(images(num_images, num_in, height, width, seed=seed))
    q_OC33, _ = integer_filters(num_out, num_in, seed=seed)
    assert torch.equal(reference.winograd_sums(q_BCIJ, q_OC33), reference.accumulate(q_BCIJ, q_OC33))


@pytest.mark.parametrize("num_in", [256, MAX_CHANNELS])
def test_extreme_integers_are_exact(num_in: int) -> None:
    q_BCIJ, q_OC33 = extreme_images(num_in)
    sums = reference.winograd_sums(q_BCIJ, q_OC33)
    assert torch.equal(sums, reference.accumulate(q_BCIJ, q_OC33))
    assert sums.max() == 9 * 255 * 127 * num_in


def test_more_channels_would_wrap_around() -> None:
    q_BCIJ, q_OC33 = extreme_images(MAX_CHANNELS + 1)
    assert not torch.equal(reference.winograd_sums(q_BCIJ, q_OC33), reference.accumulate(q_BCIJ, q_OC33))


def test_the_filters_of_the_gradient() -> None:
    x_BCHW = images(2, 3, 5, 6).double().requires_grad_()
    w_OC33 = filters(4, 3)[0].double()
    grad_BOHW = images(2, 4, 5, 6, seed=2).double()
    (expected,) = torch.autograd.grad(functional.conv2d(x_BCHW, w_OC33, padding=1), x_BCHW, grad_BOHW)
    found = reference.conv2d(grad_BOHW, reference.adjoint(w_OC33))
    assert (found - expected).abs().max() <= 1e-12 * expected.abs().max()


def test_an_image_of_one_pixel_is_a_row_of_the_linear_layer() -> None:
    q_OC33, weight = integer_filters(7, 5)
    x_BCHW = images(4, 5, 1, 1)
    bordered = functional.pad(x_BCHW, (1, 1, 1, 1)).flatten(1)
    assert torch.equal(reference.conv2d_i8(x_BCHW, q_OC33, weight).flatten(1), linear.linear(bordered, weight))


def test_each_image_has_its_own_scale() -> None:
    q_OC33, weight = integer_filters(7, 5)
    x_BCHW = images(3, 5, 6, 7) * torch.tensor([1.0, 1000.0, 1e-3])[:, None, None, None]
    alone = [reference.conv2d_i8(x_BCHW[i : i + 1], q_OC33, weight) for i in range(3)]
    assert torch.equal(reference.conv2d_i8(x_BCHW, q_OC33, weight), torch.cat(alone))


def test_the_border_of_a_positive_image_is_exact() -> None:
    q_BCIJ, _, min_B1 = reference.quantize_images(images(2, 3, 4, 5).abs())
    assert not min_B1.any()
    assert not q_BCIJ[:, :, 0].any()
    assert not q_BCIJ[:, :, :, -1].any()


def test_result_is_near_the_float_convolution() -> None:
    """The error is at most half a quantization step of every input, plus the roundings of the epilogue."""
    q_OC33, weight = integer_filters(8, 6)
    x_BCHW = images(2, 6, 9, 7)
    w_OC33 = q_OC33.double() * weight.scale_N.double()[:, None, None, None]
    exact = functional.conv2d(x_BCHW.double(), w_OC33, weight.bias_N.double(), padding=1)
    _, scale_B1, min_B1 = reference.quantize_images(x_BCHW)
    steps = tolerances.half_step(scale_B1) * w_OC33.abs().sum(dim=(1, 2, 3))
    # Each rounding of the epilogue is at most U of the largest terms: 255 steps, and the minimum of the image.
    largest = (255 * scale_B1 + min_B1.abs()).double() * w_OC33.abs().sum(dim=(1, 2, 3)) + weight.bias_N.abs()
    bound_BO = steps + tolerances.gamma(6) * largest
    found = reference.conv2d_i8(x_BCHW, q_OC33, weight)
    tolerances.assert_within(found, exact, bound_BO[:, :, None, None])
