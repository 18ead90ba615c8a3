"""The keys that heads attend to, in 8-bit integers: the definition of the router.

    queries, keys of a head --bounds--> scores of blocks --router--> chosen blocks; with window and sinks: a tile's keys

A query "sees" a key if it attends to the key. It sees the keys that are at most `window` tokens away, its own key
included, the first `sinks` keys, and the blocks that the router chooses for its tile of TILE queries.
`kernels.attention.spans` defines the same in float32, for training.

**Router.** A tile sees the `topk` blocks with the highest sum of bounds over its queries, in all heads that share the
keys. Blocks that the whole tile sees anyway, by window or sinks, do not count. The bound of a block for a query is
sum_c max(q_c min_c, q_c max_c), with the minimum and maximum of each channel over the keys of the block: Quest (Tang et
al., arXiv:2406.10774, algorithm 1). The sum of the bounds is computed from two pooled queries: the mean of the queries'
positive parts, and the mean of their negative parts, both rounded to 8 bits. A constant that is added to all keys adds
the same to all blocks, so it does not change the choice, as it does not change a softmax. All of this is integer
arithmetic on the quantized queries and keys, and of blocks with equal sums the first wins. So every implementation
chooses the same blocks.

**Lists.** The keys that at least one query of a tile sees are listed in whole quads, in order. Error diffusion
(`reference`) runs along this list. A key that a query of the tile does not see is left out of the query's maximum, and
has the weight 0.

Shape suffixes: S tokens of a sequence, Q queries of a tile, N blocks, G heads that share keys, D width of a head.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.attention.spans import KeySpan, is_seen_anyway
from kernels.native.binding import NativeSpan

QUAD = 4
"""Keys in a quad. Keys are listed in whole quads, and error diffusion carries the rounding error of a key to the fourth
key after it."""

LANES = 16
"""Lanes of a vector in the kernels. The width of a head and the size of a block are multiples of it."""

ALWAYS = (1 << 31) - 1
"""The `dense_below` of heads that see every key of any sequence."""

UNSEEN = -(1 << 15)
"""The score of a key that a query does not see, below every other."""


def is_dense(span: KeySpan, length: int) -> bool:
    """Returns whether every query of a sequence of this length sees every key."""
    return span.kind == "full" or length < span.dense_below or span.window >= length


def why_not_spans(spans: Sequence[tuple[int, KeySpan]], *, num_heads: int, num_kv_heads: int) -> list[str]:
    """Returns the reasons why the kernel cannot run these spans; [] if it can. It can always run an empty `spans`."""
    reasons: list[str] = []
    group = num_heads // num_kv_heads
    if spans and sum(heads for heads, _ in spans) != num_heads:
        reasons.append(f"spans are of {sum(heads for heads, _ in spans)} heads; expected {num_heads}")
    for heads, span in spans:
        if heads < 1 or heads % group:
            reasons.append(f"a span has {heads} heads; expected a multiple of {group}, which share their keys")
        if span.kind == "topk" and (span.block < LANES or span.block % LANES):
            reasons.append(f"a block has {span.block} keys; expected a multiple of {LANES}")
    return reasons


def native_spans(spans: Sequence[tuple[int, KeySpan]]) -> list[NativeSpan]:
    """Returns the records of the kernels for these spans."""
    return [
        NativeSpan(
            heads,
            span.window,
            span.sinks,
            span.block,
            span.topk if span.kind == "topk" else 0,
            ALWAYS if span.kind == "full" else span.dense_below,
        )
        for heads, span in spans
    ]


def seen_keys(first: int, q_GQD: Tensor, k_SD: Tensor, rate_G: Tensor, span: KeySpan) -> Tensor:
    """Returns whether each query of a tile sees each key, bool [Q, S]. The tile begins at position `first`.

    Queries and keys are the quantized integers, as float64. `rate_G` makes the scores of different heads comparable.
    """
    length = len(k_SD)
    position_Q1 = torch.arange(first, first + q_GQD.shape[1])[:, None]
    position_S = torch.arange(length)
    is_seen_QS = ((position_Q1 - position_S).abs() <= span.window) | (position_S < span.sinks)
    if span.kind == "topk":
        seen_anyway_N = is_seen_anyway(position_Q1[:1], position_Q1[-1:], length, span)[0]
        is_seen_QS |= _chosen(q_GQD, k_SD, rate_G, span, seen_anyway_N)
    return is_seen_QS


def listed_keys(is_seen_QS: Tensor) -> Tensor:
    """Returns the positions of all keys in quads of which at least one query sees a key, in order, int64."""
    quads = torch.unique(is_seen_QS.any(dim=0).nonzero() // QUAD)
    position: Tensor = (quads[:, None] * QUAD + torch.arange(QUAD)).flatten()
    return position[position < is_seen_QS.shape[1]]


def _chosen(q_GQD: Tensor, k_SD: Tensor, rate_G: Tensor, span: KeySpan, seen_anyway_N: Tensor) -> Tensor:
    """Returns whether each key is in a block that the router chooses, bool [S]."""
    blocks = torch.split(k_SD, span.block)
    highest_ND = torch.stack([block.amax(dim=0) for block in blocks])
    lowest_ND = torch.stack([block.amin(dim=0) for block in blocks])
    bound_GN = _pooled(q_GQD) @ highest_ND.T - _pooled(-q_GQD) @ lowest_ND.T
    # Blocks that the whole tile sees anyway get the lowest score, and are not counted.
    score_N = (bound_GN.to(torch.int64) * rate_G[:, None]).sum(dim=0).masked_fill(seen_anyway_N, -(1 << 62))
    order_N = score_N.argsort(descending=True, stable=True)
    num_chosen = min(span.topk, int((~seen_anyway_N).sum()))
    is_chosen_N = torch.zeros_like(seen_anyway_N).index_fill_(0, order_N[:num_chosen], True)
    return is_chosen_N.repeat_interleave(span.block)[: len(k_SD)]


def _pooled(q_GQD: Tensor) -> Tensor:
    """Returns twice the mean of the positive parts of a tile's queries, rounded [G, D]: 0 to 254, in float64."""
    num_queries = q_GQD.shape[1]
    return (2 * q_GQD.clamp(min=0).sum(dim=1) + num_queries // 2).div(num_queries, rounding_mode="floor")
