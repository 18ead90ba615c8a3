"""Attention in 8-bit integers: every instruction set gives the definition's bits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.attention import group_equal
from kernels.attention.library import repeat_kv
from kernels.attention_i8 import reference
from kernels.attention_i8.native import attention, why_not_head
from tests.kernels.attention_i8.sequences import HEAD, HEADS, WIDTH, Keys, rows


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


@pytest.mark.parametrize("num_kv_heads", [1, 2, 3])
def test_query_heads_may_share_keys_and_values(isa: str, num_kv_heads: int) -> None:
    """Each head gets the same result as with its own copy of keys and values."""
    qkv_TW, offsets = rows([4, 17, 70], width=(6 + 2 * num_kv_heads) * HEAD)
    groups = group_equal(offsets)
    found = attention(qkv_TW, groups, num_heads=6, num_kv_heads=num_kv_heads, isa=isa)
    assert torch.equal(found, attention(repeat_kv(qkv_TW, 6, num_kv_heads), groups, num_heads=6, isa=isa))
    assert torch.equal(found, reference.attention(qkv_TW, groups, num_heads=6, num_kv_heads=num_kv_heads))


SPANS = st.one_of(
    st.builds(Keys, st.just("local"), window=st.integers(0, 80), sinks=st.integers(0, 9)),
    st.builds(
        Keys,
        st.just("topk"),
        window=st.integers(0, 70),
        sinks=st.integers(0, 40),
        block=st.sampled_from([16, 32, 64]),
        topk=st.integers(1, 4),
        dense_below=st.sampled_from([0, 50]),
    ),
)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=3), SPANS, st.sampled_from([1, 2, 4]), st.integers(0, 99))
@settings(max_examples=40)
def test_heads_that_see_some_of_the_keys(
    isa: str, lengths: list[int], keys: Keys, num_kv_heads: int, seed: int
) -> None:
    qkv_TW, offsets = rows(lengths, seed=seed, width=(4 + 2 * num_kv_heads) * 32)
    groups = group_equal(offsets)
    spans = [(4, keys)] if num_kv_heads == 1 else [(2, keys), (2, Keys("local", window=5))]
    found = attention(qkv_TW, groups, num_heads=4, num_kv_heads=num_kv_heads, spans=spans, isa=isa)
    assert torch.equal(found, reference.attention(qkv_TW, groups, num_heads=4, num_kv_heads=num_kv_heads, spans=spans))


def test_a_long_sequence_in_panels(isa: str) -> None:
    qkv_TW, offsets = rows([2100], width=3 * 2 * 32)
    panels = qkv_TW.view(-1, 3, 64).transpose(0, 1)
    spans = [(1, Keys("topk", window=40, sinks=4, block=32, topk=3)), (1, Keys("local", window=100))]
    found = attention(panels, group_equal(offsets), num_heads=2, spans=spans, isa=isa)
    assert torch.equal(found, reference.attention(qkv_TW, group_equal(offsets), num_heads=2, spans=spans))


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


def test_reasons() -> None:
    assert [why_not_head(width) for width in (16, 48, 256)] == [[], [], []]
    assert why_not_head(24) == ["a head is 24 wide; expected a multiple of 16 up to 256"]
