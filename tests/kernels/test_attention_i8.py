"""Attention in 8-bit integers: every instruction set gives the definition's bits, and it is near full precision."""

from itertools import accumulate

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from kernels.attention import group_equal
from kernels.attention.reference import attention as full_attention
from kernels.attention_i8 import reference
from kernels.attention_i8.native import attention, why_not_head
from tests.kernels import tolerances

HEADS = 3
HEAD = 16
WIDTH = 3 * HEADS * HEAD


def rows(lengths: list[int], *, seed: int = 0, width: int = WIDTH) -> tuple[Tensor, list[int]]:
    """Returns rows whose channels differ in mean and deviation, as those of a trained model do, and their offsets."""
    generator = torch.Generator().manual_seed(seed)
    offsets = [0, *accumulate(lengths)]
    mean_W = torch.randn(width, generator=generator)
    deviation_W = torch.rand(width, generator=generator) * 2
    return torch.randn(offsets[-1], width, generator=generator) * deviation_W + mean_W, offsets


@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=4),
    st.integers(0, 1 << 30),
    st.sampled_from([0.001, 0.01, 1.0, 30.0]),
)
@settings(max_examples=30)
def test_equals_the_definition(isa: str, lengths: list[int], seed: int, scale: float) -> None:
    qkv_TW, offsets = rows(lengths, seed=seed)
    groups = group_equal(offsets)
    found = attention(qkv_TW * scale, groups, num_heads=HEADS, isa=isa)
    assert torch.equal(found, reference.attention(qkv_TW * scale, groups, num_heads=HEADS))


@pytest.mark.parametrize("width", [16, 32, 48, 80, 256])
def test_heads_of_any_multiple_of_16(isa: str, width: int) -> None:
    qkv_TW, offsets = rows([4, 17, 70], width=3 * 2 * width)
    groups = group_equal(offsets)
    found = attention(qkv_TW, groups, num_heads=2, isa=isa)
    assert torch.equal(found, reference.attention(qkv_TW, groups, num_heads=2))


def test_a_long_sequence(isa: str) -> None:
    """The scores exceed the first-level cache, and the sums exceed 24 bits."""
    qkv_TW, offsets = rows([700], seed=5)
    found = attention(qkv_TW * 0.2, group_equal(offsets), num_heads=HEADS, isa=isa)
    assert torch.equal(found, reference.attention(qkv_TW * 0.2, group_equal(offsets), num_heads=HEADS))


@pytest.mark.parametrize("qkv_TW", [torch.zeros(5, WIDTH), torch.full((5, WIDTH), -3.25)])
def test_equal_tokens_are_their_own_mean(isa: str, qkv_TW: Tensor) -> None:
    found = attention(qkv_TW, group_equal([0, 5]), num_heads=HEADS, isa=isa)
    assert torch.equal(found, qkv_TW[:, 2 * WIDTH // 3 :])


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 15, 16, 17, 33, 100])
def test_a_sequence_does_not_depend_on_its_neighbours(isa: str, length: int) -> None:
    qkv_TW, offsets = rows([length] * 4)
    together = attention(qkv_TW, group_equal(offsets), num_heads=HEADS, isa=isa)
    one = group_equal([0, length])
    alone = [attention(part, one, num_heads=HEADS, isa=isa) for part in torch.split(qkv_TW, length)]
    assert torch.equal(together, torch.cat(alone))


MIN_COSINE = 0.999
"""A figure of accuracy and no bound: the lowest of 600 draws is 0.9995. The error of a score grows with the scores."""


@given(st.integers(1, 300), st.integers(0, 1 << 30))
@settings(max_examples=40)
def test_the_definition_is_near_full_precision(length: int, seed: int) -> None:
    qkv_TW, offsets = rows([length], seed=seed)
    found = reference.attention(qkv_TW, group_equal(offsets), num_heads=HEADS)
    expected = full_attention(qkv_TW, offsets, HEADS)
    assert functional.cosine_similarity(found, expected, dim=1).min() > MIN_COSINE


def parabola_error() -> float:
    """Returns how far the parabola of `exp2_fixed` is from 2**-fraction, relative to it, before any rounding."""
    fraction = torch.arange(65536).double() / 65536
    parabola = 1 - fraction * (reference._SLOPE - reference._BEND * fraction) / reference._FULL
    return ((parabola - torch.exp2(-fraction)).abs() / torch.exp2(-fraction)).max().item()


@given(st.integers(1, 400), st.integers(0, 1 << 30))
@settings(max_examples=40)
def test_weights_are_bytes_that_keep_the_sum(length: int, seed: int) -> None:
    """Error diffusion keeps the sum, however small the weights are, up to a half for each of its four chains.

    What came before may be off: a power by 2 of its 256 parts and the error of the parabola, and its exponent by the
    bits that the scores lose, which are less than 1 of a score.
    """
    rate = 105
    product_HSS = torch.randint(-60000, 60000, (1, 3, length), generator=torch.Generator().manual_seed(seed)).double()
    scale = rate / (65536 << 4)  # the products lose 4 bits
    p_HSS = reference.softmax_u8(product_HSS, torch.full((1, 1, 1), scale), HEAD)
    assert p_HSS.min() >= 0
    assert p_HSS.max() <= 255
    exact_HS = (255 * 2 ** ((product_HSS - product_HSS.amax(dim=2, keepdim=True)) * scale)).sum(dim=2)
    relative = (1 + parabola_error()) * 2 ** (rate / 65536) - 1
    bound_HS = relative * exact_HS + reference.QUAD / 2 + length * 2 / 256
    tolerances.assert_within(p_HSS.sum(dim=2), exact_HS, bound_HS)


def test_steep_scores_leave_one_weight() -> None:
    """A scale that exceeds the 16 bits of the rate saturates, and still leaves one weight."""
    product_HSS = torch.tensor([[[0.0, 6000.0, -6000.0, 5000.0]]])
    for scale in (1.0, 1e30):
        p_HSS = reference.softmax_u8(product_HSS, torch.full((1, 1, 1), scale), HEAD)
        assert p_HSS.tolist() == [[[0, 255, 0, 0]]]


def test_exp2_fixed() -> None:
    """The slope, the product and the power are rounded down, by less than 1 each, and the first two oppositely."""
    exponent = torch.cat((torch.arange(0, 20 << 16, 13), torch.tensor([1 << 40])))
    power = reference.exp2_fixed(exponent)
    exact = 65280 * torch.exp2(-exponent.double() / 65536)
    tolerances.assert_within(power, exact, 2 + parabola_error() * exact)
    assert power[0] == 65280
    assert power.min() == 0
    assert (power.diff() <= 1).all()


def test_reasons() -> None:
    assert [why_not_head(width) for width in (16, 48, 256)] == [[], [], []]
    assert why_not_head(24) == ["a head is 24 wide; expected a multiple of 16 up to 256"]
