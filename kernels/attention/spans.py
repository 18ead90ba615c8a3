"""Sparse attention in float32: every head attends to some of the keys, by an additive mask of 0 and -inf.

    span of a head: full | local | topk --visible--> is_seen [.., S queries, S keys] --0 or -inf--> softmax

A query "sees" a key if it attends to the key.

**Local.** A query sees the keys that are at most `window` tokens away, its own key included, and the first `sinks` keys
(attention sinks: Xiao et al., arXiv 2309.17453).

**Top-k.** A query sees the keys of the local span, and the keys of `topk` blocks. Queries are divided into tiles of
TILE, and keys into blocks of `block`. A tile sees the `topk` blocks with the highest sum of bounds over its queries, in
all heads that share the keys. Blocks that the whole tile sees anyway, by window or sinks, do not count. The bound of a
block is sum_c max(q_c min_c, q_c max_c), with the minimum and maximum of each channel over the keys of the block: Quest
(Tang et al., arXiv 2406.10774, algorithm 1). The choice has no trained parameters. Of blocks with equal sums, the
earlier wins. `kernels.attention_i8.spans` defines the same in integers.

A key that a query does not see has exactly the weight 0. A query that sees no key has the result 0. Gradients flow
through the attention, but not through the choice of the blocks.

Shape suffixes: T tokens of all sequences, B sequences of a group, S their length, H heads, J kv heads, D width of a
head, G = H / J heads that share their keys, Q queries of a chunk, I tiles of queries, N blocks of keys.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from kernels.attention.library import EqualLengths

TILE = 32
"""Queries that see the same blocks."""

CHUNK = 16 * TILE
"""Queries whose scores are in memory at once."""

LOWEST = torch.finfo(torch.float32).min
TINY = torch.finfo(torch.float32).tiny


class KeySpan(Protocol):
    """The keys that a head attends to. `model.config.Span` documents the fields."""

    @property
    def kind(self) -> str: ...
    @property
    def window(self) -> int: ...
    @property
    def sinks(self) -> int: ...
    @property
    def block(self) -> int: ...
    @property
    def topk(self) -> int: ...
    @property
    def dense_below(self) -> int: ...


def attention(
    qkv_TW: Tensor, groups: Sequence[EqualLengths], spans: Sequence[tuple[int, KeySpan]], *, num_kv_heads: int
) -> Tensor:
    """Returns out_TX float32 with X = H * D, for groups that cover all rows of qkv_TW in order.

    A row holds q of H heads, then k and v of `num_kv_heads` heads each, which divides H. `spans` are pairs of a number
    of heads and their span, for all heads in order. All heads that share their keys have the same span.
    """
    num_heads = sum(heads for heads, _ in spans)
    num_shared = num_heads // num_kv_heads
    pieces: list[Tensor] = []
    for group in groups:
        rows_RW = qkv_TW[group.start : group.start + group.num_rows]
        rows_BHSD = rows_RW.reshape(group.count, group.length, num_heads + 2 * num_kv_heads, -1).transpose(1, 2)
        q_BHSD, k_BJSD, v_BJSD = torch.split(rows_BHSD, [num_heads, num_kv_heads, num_kv_heads], dim=1)
        outs: list[Tensor] = []
        first = 0
        for heads, span in spans:
            end = first + heads
            shared = slice(first // num_shared, end // num_shared)
            outs.append(_attend(q_BHSD[:, first:end], k_BJSD[:, shared], v_BJSD[:, shared], span))
            first = end
        pieces.append(torch.cat(outs, dim=1).transpose(1, 2).flatten(2).flatten(0, 1))
    return torch.cat(pieces)


def visible(q_BHQD: Tensor, k_BJSD: Tensor, span: KeySpan, *, first: int = 0) -> Tensor:
    """Returns whether each query sees each key, bool, in a shape that broadcasts to [B, J, Q, S].

    `first` is the position of the first query.
    """
    num_queries = q_BHQD.shape[2]
    length = k_BJSD.shape[2]
    if span.kind == "full" or length < span.dense_below:
        return torch.ones(1, 1, num_queries, length, dtype=torch.bool)
    position_Q1 = torch.arange(first, first + num_queries)[:, None]
    position_S = torch.arange(length)
    is_near_QS = (position_Q1 - position_S).abs() <= span.window
    is_seen = (is_near_QS | (position_S < span.sinks))[None, None]
    return is_seen if span.kind == "local" else is_seen | _is_chosen(q_BHQD, k_BJSD, span, first)


def _is_chosen(q_BHQD: Tensor, k_BJSD: Tensor, span: KeySpan, first: int) -> Tensor:
    """Returns whether the router has chosen the block of a key for the tile of a query, bool [B, J, Q, S]."""
    num_queries = q_BHQD.shape[2]
    length = k_BJSD.shape[2]
    lowest_BJND = _by_block(k_BJSD, span.block, torch.inf).amin(dim=3)
    highest_BJND = _by_block(k_BJSD, span.block, -torch.inf).amax(dim=3)
    q_BJGQD = q_BHQD.reshape(*k_BJSD.shape[:2], -1, *q_BHQD.shape[2:])
    positive_BJID = _by_block(q_BJGQD.clamp(min=0).sum(dim=2), TILE, 0).sum(dim=3)
    negative_BJID = _by_block(q_BJGQD.clamp(max=0).sum(dim=2), TILE, 0).sum(dim=3)
    bound_BJIN = positive_BJID @ highest_BJND.mT + negative_BJID @ lowest_BJND.mT
    first_I1 = torch.arange(first, first + num_queries, TILE)[:, None]
    is_seen_IN = is_seen_anyway(first_I1, (first_I1 + TILE).clamp(max=first + num_queries) - 1, length, span)
    order_BJIN = bound_BJIN.masked_fill(is_seen_IN, -torch.inf).argsort(dim=3, descending=True, stable=True)
    is_chosen_BJIN = torch.zeros_like(bound_BJIN, dtype=torch.bool).scatter_(3, order_BJIN[..., : span.topk], True)
    is_chosen_BJIN &= ~is_seen_IN
    is_chosen_BJQN = is_chosen_BJIN.repeat_interleave(TILE, dim=2)[:, :, :num_queries]
    return is_chosen_BJQN.repeat_interleave(span.block, dim=3)[..., :length]


def is_seen_anyway(first_I1: Tensor, last_I1: Tensor, length: int, span: KeySpan) -> Tensor:
    """Returns whether every query of a tile sees every key of a block without the router's choice, bool [I, N].

    It sees these keys by the window or by the sinks. Tile i has the queries first_I1[i] to last_I1[i], inclusive.
    """
    start_N = torch.arange(0, length, span.block)
    end_N = (start_N + span.block).clamp(max=length)
    is_near_IN = (start_N >= last_I1 - span.window) & (end_N - 1 <= first_I1 + span.window)
    return is_near_IN | (end_N <= span.sinks)


def _by_block(x_BJSD: Tensor, block: int, padding: float) -> Tensor:
    """Returns the rows in blocks [B, J, blocks, block, D]. The last block is filled up with `padding`."""
    num_batch, num_heads, length, width = x_BJSD.shape
    padded_BJSD = functional.pad(x_BJSD, (0, 0, 0, -length % block), value=padding)
    return padded_BJSD.view(num_batch, num_heads, -1, block, width)


def _attend(q_BHSD: Tensor, k_BJSD: Tensor, v_BJSD: Tensor, span: KeySpan) -> Tensor:
    """Returns out_BHSD of heads with the same span. CHUNK queries at a time bound the memory of the scores."""
    outs: list[Tensor] = []
    for first in range(0, q_BHSD.shape[2], CHUNK):
        q_BHQD = q_BHSD[:, :, first : first + CHUNK]
        with torch.no_grad():
            is_seen = visible(q_BHQD, k_BJSD, span, first=first)
        outs.append(_masked(q_BHQD, k_BJSD, v_BJSD, is_seen))
    return torch.cat(outs, dim=2)


def _masked(q_BHQD: Tensor, k_BJSD: Tensor, v_BJSD: Tensor, is_seen_BJQS: Tensor) -> Tensor:
    q_BJGQD = q_BHQD.reshape(*k_BJSD.shape[:2], -1, *q_BHQD.shape[2:])
    scores_BJGQS = q_BJGQD @ k_BJSD[:, :, None].mT * q_BHQD.shape[3] ** -0.5
    scores_BJGQS = scores_BJGQS.masked_fill(~is_seen_BJQS[:, :, None], -torch.inf)
    # A query that sees no key has the maximum -inf; the clamp prevents -inf - -inf, which is NaN.
    highest_BJGQ1 = scores_BJGQS.detach().amax(dim=4, keepdim=True).clamp(min=LOWEST)
    p_BJGQS = (scores_BJGQS - highest_BJGQ1).exp()
    mean_BJGQD = p_BJGQS @ v_BJSD[:, :, None] / p_BJGQS.sum(dim=4, keepdim=True).clamp(min=TINY)
    out_BHQD: Tensor = mean_BJGQD.reshape(q_BHQD.shape)
    return out_BHQD
