"""Our own C: the float convolution is as good as Winograd's in torch, and the integers have the reference's bits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels import native as own
from kernels.conv2d import native, reference
from kernels.linear_i8.reference import Int8Weight
from tests.kernels import tolerances
from tests.kernels.conv2d.images import SHAPES, filters, images, integer_filters
from tests.required import missing

WITHIN = 1e-3
"""The bar of the ledger for the error of the float convolution, relative to the largest value."""


@pytest.fixture(scope="module")
def _is_built() -> None:
    if reasons := own.why_unavailable():
        missing("compiler", "; ".join(reasons))


def winograd(x_BCHW: Tensor, w_OC33: Tensor, bias_O: Tensor | None, tile: int, isa: str | None = None) -> Tensor:
    packed = native.pack_winograd(w_OC33, bias_O, tile, isa=isa)
    return native.winograd(x_BCHW, packed, len(w_OC33), tile, isa=isa)


def both_in_integers(x_BCHW: Tensor, q_OC33: Tensor, weight: Int8Weight, isa: str | None = None) -> list[Tensor]:
    num_out = len(q_OC33)
    return [
        native.conv2d_i8(x_BCHW, native.pack_i8(q_OC33, weight), num_out, isa=isa),
        native.exact(x_BCHW, native.pack_exact(q_OC33, weight), num_out, isa=isa),
    ]


@pytest.mark.parametrize("tile", [2, 4])
def test_winograd_is_the_direct_convolution(isa: str, tile: int) -> None:
    for num_images, num_in, num_out, height, width in SHAPES:
        x_BCHW = images(num_images, num_in, height, width)
        w_OC33, bias_O = filters(num_out, num_in)
        found = winograd(x_BCHW, w_OC33, bias_O, tile, isa)
        exact = reference.conv2d(x_BCHW.double(), w_OC33, bias_O)
        plain = reference.winograd(x_BCHW, w_OC33, tile) + bias_O[:, None, None]
        tolerances.assert_as_good(found, plain, exact)
        assert (found - exact).abs().max() <= WITHIN * exact.abs().max()


@pytest.mark.parametrize("tile", [2, 4])
def test_all_instruction_sets_round_alike(isa: str, tile: int) -> None:
    for num_images, num_in, num_out, height, width in SHAPES:
        x_BCHW = images(num_images, num_in, height, width)
        w_OC33, bias_O = filters(num_out, num_in)
        plain = winograd(x_BCHW, w_OC33, bias_O, tile, "plain")
        assert torch.equal(winograd(x_BCHW, w_OC33, bias_O, tile, isa), plain)


@pytest.mark.usefixtures("_is_built")
@pytest.mark.parametrize("tile", [2, 4])
def test_adjoint_filters(isa: str, tile: int) -> None:
    w_OC33, _ = filters(35, 18)
    bias_C = torch.arange(18.0)
    found = native.pack_winograd(w_OC33, bias_C, tile, adjoint=True, isa=isa)
    assert torch.equal(found, native.pack_winograd(reference.adjoint(w_OC33), bias_C, tile, isa=isa))


def test_integers_have_the_bits_of_the_reference(isa: str) -> None:
    for num_images, num_in, num_out, height, width in SHAPES:
        x_BCHW = images(num_images, num_in, height, width)
        q_OC33, weight = integer_filters(num_out, num_in)
        expected = reference.conv2d_i8(x_BCHW, q_OC33, weight)
        for found in both_in_integers(x_BCHW, q_OC33, weight, isa):
            assert torch.equal(found, expected), (num_in, num_out, height, width)


@pytest.mark.parametrize("num_in", [128, 256])
def test_extreme_integers(isa: str, num_in: int) -> None:
    """Bytes of 0 and 255, and filters of 127 with both signs: the largest sums, and the largest transformed values."""
    x_BCHW = torch.zeros(2, num_in, 6, 5)
    x_BCHW[:, :, ::2] = 255.0
    x_BCHW[1] = 255.0
    q_OC33 = torch.full((33, num_in, 3, 3), 127, dtype=torch.int8)
    q_OC33[1::3] = -127
    q_OC33[2::3, :, 1] = -127
    weight = Int8Weight.of(q_OC33.flatten(1), torch.ones(33), None)
    expected = reference.conv2d_i8(x_BCHW, q_OC33, weight)
    assert expected.max() == 9 * 255 * 127 * num_in
    for found in both_in_integers(x_BCHW, q_OC33, weight, isa):
        assert torch.equal(found, expected)


@pytest.mark.usefixtures("_is_built")
@given(
    st.tuples(*[st.integers(1, 3), st.integers(1, 40), st.integers(1, 70), st.integers(1, 20), st.integers(1, 20)]),
    st.integers(0, 1 << 30),
)
@settings(max_examples=40, deadline=None)
def test_every_size(size: tuple[int, int, int, int, int], seed: int) -> None:
    num_images, num_in, num_out, height, width = size
    x_BCHW = images(num_images, num_in, height, width, seed=seed)
    q_OC33, weight = integer_filters(num_out, num_in, seed=seed)
    expected = reference.conv2d_i8(x_BCHW, q_OC33, weight)
    for found in both_in_integers(x_BCHW, q_OC33, weight):
        assert torch.equal(found, expected)
    w_OC33, bias_O = filters(num_out, num_in, seed=seed)
    exact = reference.conv2d(x_BCHW.double(), w_OC33, bias_O)
    for tile in (2, 4):
        found = winograd(x_BCHW, w_OC33, bias_O, tile)
        assert (found - exact).abs().max() <= WITHIN * (1 + exact.abs().max())


@pytest.mark.usefixtures("_is_built")
def test_threads_and_neighbours_change_no_bit() -> None:
    w_OC33, bias_O = filters(40, 24)
    q_OC33, weight = integer_filters(40, 24)
    x_BCHW = images(5, 24, 23, 10)
    results: list[list[Tensor]] = []
    for num_threads in (1, 2, 3, 70):
        torch.set_num_threads(num_threads)
        floats = [winograd(x_BCHW, w_OC33, bias_O, tile) for tile in (2, 4)]
        results.append(floats + both_in_integers(x_BCHW, q_OC33, weight))
    alone = [winograd(x_BCHW[3:4], w_OC33, bias_O, tile) for tile in (2, 4)]
    alone += both_in_integers(x_BCHW[3:4], q_OC33, weight)
    for result in results:
        for found, first, one in zip(result, results[0], alone, strict=True):
            assert torch.equal(found, first)
            assert torch.equal(found[3:4], one)


@pytest.mark.usefixtures("_is_built")
def test_images_and_filters_in_any_layout() -> None:
    w_OC33, bias_O = filters(6, 5)
    q_OC33, weight = integer_filters(6, 5)
    x_BCHW = images(2, 5, 7, 8)
    expected = [winograd(x_BCHW, w_OC33, bias_O, 4), *both_in_integers(x_BCHW, q_OC33, weight)]
    layouts = (
        x_BCHW.contiguous(memory_format=torch.channels_last),
        x_BCHW.transpose(2, 3).contiguous().transpose(2, 3),
        torch.cat((x_BCHW, x_BCHW), dim=1)[:, 5:],
    )
    strided = w_OC33.contiguous(memory_format=torch.channels_last)
    strided_q = q_OC33.contiguous(memory_format=torch.channels_last)
    for x in layouts:
        found = [winograd(x, strided, bias_O, 4), *both_in_integers(x, strided_q, weight)]
        assert all(map(torch.equal, found, expected))
    assert expected[0].is_contiguous(memory_format=torch.channels_last)
