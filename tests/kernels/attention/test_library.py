"""Ragged attention against the definition, and against itself in other batches."""

from collections.abc import Callable
from functools import partial
from itertools import accumulate, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.attention import EqualLengths, attention, group_equal, library, reference
from model.config import Span
from tests.kernels import tolerances

HEADS = 3
HEAD = 16
WIDTH = 3 * HEADS * HEAD


def rows(lengths: list[int], *, seed: int = 0) -> tuple[Tensor, list[int]]:
    offsets = [0, *accumulate(lengths)]
    return torch.randn(offsets[-1], WIDTH, generator=torch.Generator().manual_seed(seed)), offsets


def test_groups_are_neighbours_of_one_length() -> None:
    groups = group_equal([0, 2, 4, 7, 9])
    assert groups == (EqualLengths(0, 2, 2), EqualLengths(4, 1, 3), EqualLengths(7, 1, 2))
    assert [group.num_rows for group in groups] == [4, 3, 2]


@given(st.lists(st.integers(1, 140), min_size=1, max_size=6), st.integers(0, 1 << 30))
@settings(max_examples=30)
def test_equals_the_definition(lengths: list[int], seed: int) -> None:
    qkv_TW, offsets = rows(sorted(lengths), seed=seed)
    found = attention(qkv_TW, group_equal(offsets), num_heads=HEADS)
    plain, exact = (reference.attention(rows_TW, offsets, HEADS) for rows_TW in (qkv_TW, qkv_TW.double()))
    tolerances.assert_as_good(found, plain, exact)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 15, 16, 17, 33, library.SHORT - 1, library.SHORT, 100])
def test_a_sequence_does_not_depend_on_its_neighbours(length: int) -> None:
    qkv_TW, offsets = rows([length] * 5)
    together = attention(qkv_TW, group_equal(offsets), num_heads=HEADS)
    alone = [attention(part, group_equal([0, length]), num_heads=HEADS) for part in torch.split(qkv_TW, length)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("width", [8, 24, 48, 256])
def test_heads_of_any_width(width: int) -> None:
    qkv_TW = torch.randn(21, 3 * 2 * width, generator=torch.Generator().manual_seed(1))
    found = attention(qkv_TW, group_equal([0, 4, 21]), num_heads=2)
    plain, exact = (reference.attention(rows_TW, [0, 4, 21], 2) for rows_TW in (qkv_TW, qkv_TW.double()))
    tolerances.assert_as_good(found, plain, exact)


@pytest.mark.parametrize("lengths", [[3, 3, 5], [library.SHORT, 60]])
def test_gradients_flow(lengths: list[int]) -> None:
    qkv_TW, offsets = rows(lengths)

    def gradient(attend: Callable[[Tensor], Tensor], rows_TW: Tensor) -> Tensor:
        rows_TW = rows_TW.clone().requires_grad_()
        attend(rows_TW).square().sum().backward()  # type: ignore[no-untyped-call]
        assert rows_TW.grad is not None
        return rows_TW.grad

    plainly = partial(reference.attention, offsets=offsets, num_heads=HEADS)
    found = gradient(lambda rows_TW: attention(rows_TW, group_equal(offsets), num_heads=HEADS), qkv_TW)
    tolerances.assert_as_good(found, gradient(plainly, qkv_TW), gradient(plainly, qkv_TW.double()))


def test_large_scores_do_not_overflow() -> None:
    qkv_TW, offsets = rows([4, 4, 60, 200])
    found = attention(qkv_TW * 1e3, group_equal(offsets), num_heads=HEADS)
    assert torch.isfinite(found).all()


def test_refuses_groups_that_do_not_fit() -> None:
    qkv_TW, _ = rows([4])
    for groups in ((), group_equal([0, 3]), group_equal([0, 5])):
        with pytest.raises(ValueError, match="expected 4, at least 1"):
            attention(qkv_TW, groups, num_heads=HEADS)


def test_refuses_a_width_that_does_not_divide() -> None:
    with pytest.raises(ValueError, match="W a multiple of 21"):
        attention(rows([4])[0], group_equal([0, 4]), num_heads=7)


def test_query_heads_may_share_keys_and_values() -> None:
    """Heads 0 and 1 read kv head 0, heads 2 and 3 read kv head 1."""
    generator = torch.Generator().manual_seed(0)
    q_THD = torch.randn(60, 4, HEAD, generator=generator)
    k_TGD, v_TGD = torch.randn(2, 60, 2, HEAD, generator=generator)
    groups = group_equal([0, 7, 60])
    found = attention(torch.cat((q_THD, k_TGD, v_TGD), dim=1).flatten(1), groups, num_heads=4, num_kv_heads=2)
    repeated = [each.repeat_interleave(2, dim=1) for each in (k_TGD, v_TGD)]
    assert torch.equal(found, attention(torch.cat((q_THD, *repeated), dim=1).flatten(1), groups, num_heads=4))


def test_refuses_heads_that_cannot_share_evenly() -> None:
    with pytest.raises(ValueError, match="expected"):
        attention(torch.zeros(2, 14 * HEAD), group_equal([0, 2]), num_heads=4, num_kv_heads=5)


@pytest.mark.parametrize("lengths", [[1, 3, 3, 17], [library.SHORT, 70]])
def test_causal_attention_is_attention_to_the_tokens_before(lengths: list[int]) -> None:
    qkv_TW, offsets = rows(lengths)
    found_TX = attention(qkv_TW, group_equal(offsets), num_heads=HEADS, is_causal=True)
    for start, end in pairwise(offsets):
        for place in range(start, end):
            seen = attention(qkv_TW[start : place + 1], group_equal([0, place + 1 - start]), num_heads=HEADS)
            torch.testing.assert_close(found_TX[place], seen[-1])


def test_causal_attention_refuses_spans() -> None:
    qkv_TW, offsets = rows([5])
    with pytest.raises(ValueError, match="causal attention with 1 spans"):
        attention(
            qkv_TW, group_equal(offsets), num_heads=HEADS, spans=[(HEADS, Span(kind="local", window=2))], is_causal=True
        )
