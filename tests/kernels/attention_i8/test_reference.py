"""The definition of attention in 8-bit integers: near full precision, and each of its roundings within its bound."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from kernels.attention import group_equal
from kernels.attention.reference import attention as full_attention
from kernels.attention_i8 import reference
from kernels.attention_i8.spans import QUAD
from tests.kernels import tolerances
from tests.kernels.attention_i8.sequences import HEAD, HEADS, rows

MIN_COSINE = 0.999
"""A measured accuracy, not a bound: the lowest of 600 draws is 0.9995. The error of a score grows with the scores."""


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
    bound_HS = relative * exact_HS + QUAD / 2 + length * 2 / 256
    tolerances.assert_within(p_HSS.sum(dim=2), exact_HS, bound_HS)


def test_steep_scores_leave_one_weight() -> None:
    """A scale that exceeds the 16 bits of the rate saturates, and still leaves one weight."""
    product_HSS = torch.tensor([[[0.0, 6000.0, -6000.0, 5000.0]]])
    for scale in (1.0, 1e30):
        p_HSS = reference.softmax_u8(product_HSS, torch.full((1, 1, 1), scale), HEAD)
        assert p_HSS.tolist() == [[[0, 255, 0, 0]]]


def test_keys_that_are_not_seen_weigh_exactly_nothing() -> None:
    """They are left out of the maximum, too. A query that sees no key has no weights."""
    product_HQS = torch.tensor([[[0.0, 6000.0, 100.0], [0.0, 6000.0, 100.0]]])
    is_seen_QS = torch.tensor([[True, False, True], [False, False, False]])
    p_HQS = reference.softmax_u8(product_HQS, torch.full((1, 1, 1), 1e-3), HEAD, is_seen_QS)
    assert p_HQS[0, 0, 1] == 0
    assert p_HQS[0, 0, 2] == 255
    assert p_HQS[0, 1].tolist() == [0, 0, 0]


def test_exp2_fixed() -> None:
    """Slope, product and power are each rounded down by less than 1. The first two errors have opposite signs."""
    exponent = torch.cat((torch.arange(0, 20 << 16, 13), torch.tensor([1 << 40])))
    power = reference.exp2_fixed(exponent)
    exact = 65280 * torch.exp2(-exponent.double() / 65536)
    tolerances.assert_within(power, exact, 2 + parabola_error() * exact)
    assert power[0] == 65280
    assert power.min() == 0
    assert (power.diff() <= 1).all()
