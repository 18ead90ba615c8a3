"""Spans in 8-bit integers: the keys that a tile sees, compared with float32 and with full attention."""

import pytest
import torch

from kernels.attention import group_equal
from kernels.attention import spans as in_floats
from kernels.attention.spans import TILE
from kernels.attention_i8.reference import attention
from kernels.attention_i8.spans import is_dense, listed_keys, seen_keys, why_not_spans
from tests.kernels.attention_i8.sequences import HEAD, HEADS, Keys, rows

FULL = Keys("full")
RATES = torch.ones(1, dtype=torch.int64)


@pytest.mark.parametrize(
    "keys",
    [
        FULL,
        Keys("local", window=150),
        Keys("local", window=149),
        Keys("topk", block=16, topk=10),
        Keys("topk", block=64, topk=1, window=140, sinks=100),
        Keys("topk", block=16, topk=1, dense_below=151),
    ],
)
def test_a_span_over_all_keys_is_full(keys: Keys) -> None:
    qkv_TW, offsets = rows([150, 1])
    groups = group_equal(offsets)
    full = attention(qkv_TW, groups, num_heads=HEADS)
    assert torch.equal(attention(qkv_TW, groups, num_heads=HEADS, spans=[(HEADS, keys)]), full)


def test_heads_have_spans_of_their_own() -> None:
    qkv_TW, offsets = rows([100])
    groups = group_equal(offsets)
    full = attention(qkv_TW, groups, num_heads=HEADS)
    found = attention(qkv_TW, groups, num_heads=HEADS, spans=[(1, FULL), (2, Keys("local", window=4))])
    assert torch.equal(found[:, :HEAD], full[:, :HEAD])
    assert not torch.equal(found[:, HEAD:], full[:, HEAD:])


@pytest.mark.parametrize("keys", [Keys("local", window=3, sinks=5), Keys("topk", window=3, sinks=2, block=16, topk=2)])
def test_floats_see_the_same_keys(keys: Keys) -> None:
    """Up to the rounding of pooled queries, both definitions choose the same blocks, for any offset of all keys."""
    generator = torch.Generator().manual_seed(0)
    q_SD = torch.randint(-127, 128, (90, HEAD), generator=generator).double()
    k_SD = torch.randint(0, 256, (90, HEAD), generator=generator).double()
    expected = in_floats.visible(q_SD[None, None], k_SD[None, None] - 128, keys)[0, 0]
    for first in range(0, 90, TILE):
        found = seen_keys(first, q_SD[None, first : first + TILE], k_SD, RATES, keys)
        assert (found != expected[first : first + TILE]).float().mean() < 0.1


def test_of_equal_blocks_the_first_are_chosen() -> None:
    ones = torch.ones(100, HEAD).double()
    is_seen_QS = seen_keys(64, ones[None, 64:96], ones, RATES, Keys("topk", block=16, topk=2, window=15, sinks=16))
    assert is_seen_QS[0].nonzero().flatten().tolist() == [*range(48), *range(49, 80)]


def test_the_last_block_may_be_partial_and_is_chosen_whole() -> None:
    k_SD = torch.zeros(70, HEAD).double()
    k_SD[69, 2] = 9
    q_GQD = torch.ones(1, TILE, HEAD).double()
    is_seen_QS = seen_keys(0, q_GQD, k_SD, RATES, Keys("topk", block=32, topk=1))
    assert is_seen_QS[7].nonzero().flatten().tolist() == [7, *range(64, 70)]


def test_keys_are_listed_in_whole_quads() -> None:
    is_seen_QS = torch.zeros(2, 11, dtype=torch.bool)
    is_seen_QS[0, 1] = True
    is_seen_QS[1, 10] = True
    assert listed_keys(is_seen_QS).tolist() == [0, 1, 2, 3, 8, 9, 10]


def test_short_sequences_are_dense() -> None:
    assert is_dense(Keys("local", window=8, dense_below=20), 19)
    assert not is_dense(Keys("local", window=8, dense_below=20), 20)
    assert is_dense(Keys("local", window=8), 8)


def test_reasons() -> None:
    assert why_not_spans([], num_heads=4, num_kv_heads=2) == []
    assert why_not_spans([(3, Keys("topk", block=24, topk=1))], num_heads=4, num_kv_heads=2) == [
        "spans are of 3 heads; expected 4",
        "a span has 3 heads; expected a multiple of 2, which share their keys",
        "a block has 24 keys; expected a multiple of 16",
    ]
