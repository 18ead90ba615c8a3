"""Attention to some of the keys equals full attention from which the other keys are removed."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.attention import attention as full_attention
from kernels.attention import group_equal
from kernels.attention.spans import CHUNK, TILE, attention, visible

HEADS = 4
HEAD = 8


@dataclass(frozen=True)
class Keys:
    """A span: see `model.config.Span`."""

    kind: str = "full"
    window: int = 0
    sinks: int = 0
    block: int = 4
    topk: int = 0
    dense_below: int = 0


FULL = Keys()
LOCAL = Keys("local", window=3, sinks=2)
TOPK = Keys("topk", topk=2, window=1)
KEYS = st.sampled_from([FULL, LOCAL, TOPK, Keys("topk", topk=1, block=7), Keys("local", window=1, dense_below=9)])


def rows(num_tokens: int, *, kv_heads: int = HEADS, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_tokens, (HEADS + 2 * kv_heads) * HEAD, generator=generator)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), KEYS)
@settings(max_examples=25)
def test_a_sequence_attends_to_itself_alone(lengths: list[int], keys: Keys) -> None:
    offsets = [0]
    for length in sorted(lengths):
        offsets.append(offsets[-1] + length)
    qkv_TW = rows(offsets[-1])
    together = attention(qkv_TW, group_equal(offsets), [(HEADS, keys)], num_kv_heads=HEADS)
    for start, end in pairwise(offsets):
        alone = attention(qkv_TW[start:end], group_equal([0, end - start]), [(HEADS, keys)], num_kv_heads=HEADS)
        assert torch.allclose(together[start:end], alone, atol=1e-6)


@pytest.mark.parametrize(
    "keys", [FULL, Keys("local", window=99), Keys("topk", topk=25), Keys("topk", topk=1, dense_below=101)]
)
def test_a_span_over_all_keys_is_full(keys: Keys) -> None:
    groups = group_equal([0, 100])
    qkv_TW = rows(100)
    found = attention(qkv_TW, groups, [(1, FULL), (3, keys)], num_kv_heads=HEADS)
    assert torch.allclose(found, full_attention(qkv_TW, groups, num_heads=HEADS), atol=1e-5)


@pytest.mark.parametrize("keys", [LOCAL, TOPK])
def test_a_masked_key_weighs_exactly_nothing(keys: Keys) -> None:
    """The value of a key that is not seen changes no bit of the result."""
    qkv_TW = rows(70)
    q_BHSD, k_BHSD, v_BHSD = qkv_TW.view(1, 70, 3, HEADS, HEAD).permute(2, 0, 3, 1, 4)
    is_seen = visible(q_BHSD, k_BHSD, keys).expand(1, HEADS, 70, 70)
    changed = v_BHSD.clone()
    query = 40
    changed[0][~is_seen[0, :, query]] = 1e30
    changed_TW = torch.cat((q_BHSD, k_BHSD, changed)).permute(2, 0, 1, 3).reshape(70, -1)
    groups = group_equal([0, 70])
    one, other = (attention(x_TW, groups, [(HEADS, keys)], num_kv_heads=HEADS) for x_TW in (qkv_TW, changed_TW))
    assert torch.equal(one[query], other[query])
    assert not torch.equal(one, other)


def test_which_keys_a_window_has() -> None:
    q_BHSD = torch.zeros(1, 1, 8, HEAD)
    is_seen_SS = visible(q_BHSD, q_BHSD, LOCAL)[0, 0]
    assert is_seen_SS[6].nonzero().flatten().tolist() == [0, 1, 3, 4, 5, 6, 7]
    later = visible(q_BHSD[:, :, 6:], q_BHSD, LOCAL, first=6)[0, 0]
    assert torch.equal(later, is_seen_SS[6:])


def test_the_blocks_with_the_highest_bounds_are_chosen() -> None:
    length = TILE + 5
    k_BJSD = torch.zeros(1, 1, length, HEAD)
    k_BJSD[0, 0, 17, 3] = 9.0
    k_BJSD[0, 0, 30, 5] = -5.0
    q_BHSD = torch.zeros(1, 2, length, HEAD)
    q_BHSD[0, 1, 2, 3] = 1.0  # one query of the first tile, of the second of the heads that share the keys
    q_BHSD[0, 0, TILE, 5] = -1.0  # and one of the second tile
    is_seen_SS = visible(q_BHSD, k_BJSD, Keys("topk", topk=1))[0, 0]
    assert is_seen_SS[0].nonzero().flatten().tolist() == [0, 16, 17, 18, 19]
    assert is_seen_SS[TILE].nonzero().flatten().tolist() == [28, 29, 30, 31, TILE]


def test_blocks_that_a_tile_sees_anyway_are_not_chosen() -> None:
    """All queries of the first tile see the keys 0 to 39 by their windows, so the router takes the next block."""
    q_BHSD = torch.ones(1, 1, 3 * TILE, HEAD)
    is_seen_SS = visible(q_BHSD, q_BHSD, Keys("topk", topk=1, window=TILE + 7))[0, 0]
    assert is_seen_SS[0].nonzero().flatten().tolist() == list(range(TILE + 12))


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_heads_share_keys_and_values(kv_heads: int) -> None:
    qkv_TW = rows(20, kv_heads=kv_heads)
    q_THD, k_TJD, v_TJD = torch.split(qkv_TW.view(20, -1, HEAD), [HEADS, kv_heads, kv_heads], dim=1)
    shared = HEADS // kv_heads
    own_TW = torch.cat((q_THD, k_TJD.repeat_interleave(shared, 1), v_TJD.repeat_interleave(shared, 1)), 1).flatten(1)
    groups = group_equal([0, 20])
    found = attention(qkv_TW, groups, [(HEADS, FULL)], num_kv_heads=kv_heads)
    assert torch.allclose(found, full_attention(own_TW, groups, num_heads=HEADS), atol=1e-6)


def test_chunks_do_not_change_what_is_seen() -> None:
    length = CHUNK + TILE
    q_BHSD, k_BHSD = torch.randn(2, 1, 1, length, HEAD, generator=torch.Generator().manual_seed(2))
    whole = visible(q_BHSD, k_BHSD, TOPK)
    assert torch.equal(visible(q_BHSD[:, :, CHUNK:], k_BHSD, TOPK, first=CHUNK), whole[:, :, CHUNK:])


def test_gradients_reach_keys_that_are_seen() -> None:
    qkv_TW = rows(30).requires_grad_()
    attention(qkv_TW, group_equal([0, 30]), [(HEADS, LOCAL)], num_kv_heads=HEADS)[0].sum().backward()  # type: ignore[no-untyped-call]
    assert qkv_TW.grad is not None
    values_TX = qkv_TW.grad[:, 2 * HEADS * HEAD :]
    assert values_TX.abs().amax(dim=1).nonzero().flatten().tolist() == [0, 1, 2, 3]
