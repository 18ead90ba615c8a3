"""Gives each head the narrowest span of keys that is enough for it, and measures from which length on that is faster.

    H = - mean over queries of sum_S p_S log p_S      exp(H): the number of keys that a head looks at, in effect
    seen = mean over queries of the weight p_S of the keys that a span would leave to it
    span --attention of random texts, both in turns, on one thread--> the fewest tokens from which on it is faster

A head of low entropy near its queries, or on the first tokens, needs no other keys; a head that looks at many keys has
most of its weight outside of any narrow span. So spans are allocated by what they leave of the measured attention, and
entropies say why. Xiao et al. (DuoAttention, arXiv 2410.10819) find such heads by training gates instead.

Texts must be about as long as those to come: in a short text, a window sees every key.

A router reads the bounds of all blocks before it reads keys, so on short texts a routed span is slower than all keys,
which also see more. Where these cross depends on the processor.

Shape suffixes: B texts of a group, S tokens of each, H heads, J kv heads, D width of a head, N spans.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, repeat
from typing import Final

import torch
from torch import Tensor

from kernels import native
from kernels.attention import group_equal, rotary
from kernels.attention.spans import visible
from kernels.attention_i8.native import attention, why_not_head
from lifelong.compress.cost import pairs_seen
from lifelong.compress.heads import runs_of
from model.config import LayerSpec, Span, StrataConfig
from model.errors import WrongConfig
from model.linears import full_precision, product
from model.plan import BlockPlan, plan_of
from model.ragged import RaggedBatch, RaggedLayout
from model.strata import Block, Strata, rebuilt, state_of, with_layers

MAX_TOKENS = 2_048
"""Tokens of a text whose attention is measured: of 12 heads it takes 200 MB, and some copies."""

MAX_BATCH_PAIRS = 8 * 512**2
"""Pairs of tokens whose attention is in memory at once, or those of one text."""


@dataclass(frozen=True, slots=True, eq=False)
class HeadUse:
    """What the heads of one layer look at: their entropies in nats [H], and what each span leaves of it [N, H]."""

    entropy_H: Tensor
    seen_NH: Tensor

    @property
    def num_keys_H(self) -> Tensor:
        """The number of keys that each head looks at, in effect."""
        return self.entropy_H.exp()


@torch.no_grad()
def measure_heads(strata: Strata, token_ids: Sequence[list[int]], spans: Sequence[Span]) -> list[HeadUse]:
    """Returns what the heads look at, by layer, on average over all tokens of the texts, each cut at MAX_TOKENS."""
    blocks = plan_of(strata.config).blocks
    entropies = [torch.zeros(block.heads) for block in blocks]
    seen = [torch.zeros(len(spans), block.heads) for block in blocks]
    cut = [ids[:MAX_TOKENS] for ids in token_ids]
    num_tokens = sum(map(len, cut))
    for texts in _batches(cut):
        batch = RaggedBatch.of(texts)
        x_TD = strata.encode_prefix(batch, 0)
        for layer, entropy_H, seen_NH in zip(strata.layers, entropies, seen, strict=True):
            assert isinstance(layer, Block)
            for q_BHSD, k_BJSD in _queries_and_keys(layer, x_TD, batch.layout):
                p_BHSS = _attention(q_BHSD, k_BJSD)
                entropy_H += torch.special.entr(p_BHSS).sum(dim=(0, 2, 3)) / num_tokens
                for place, span in enumerate(spans):
                    seen_NH[place] += _seen(p_BHSS, q_BHSD, k_BJSD, span) / num_tokens
            x_TD = layer(x_TD, batch.layout, full_precision)
    return [HeadUse(entropy_H, seen_NH) for entropy_H, seen_NH in zip(entropies, seen, strict=True)]


def _batches(token_ids: Sequence[list[int]]) -> Iterator[list[list[int]]]:
    """Yields the texts in their order, so many at once as have MAX_PAIRS, at least one."""
    batch: list[list[int]] = []
    for ids in token_ids:
        if batch and sum(len(each) ** 2 for each in (*batch, ids)) > MAX_BATCH_PAIRS:
            yield batch
            batch = []
        batch.append(ids)
    if batch:
        yield batch


def allocate(strata: Strata, use: Sequence[HeadUse], spans: Sequence[Span], *, enough: float) -> Strata:
    """Returns the encoder whose heads have the cheapest of the spans that leave at least `enough` of their attention.

    Heads that share their keys get one span, which suits all of them. A head that no span suits sees every key. Raises
    WrongConfig for an encoder that has spans already.
    """
    if strata.config.spans:
        raise WrongConfig("the encoder has spans already; measure the one that it was made of")
    everything = Span(kind="full")
    longest = strata.config.max_sequence
    cheapest_first = sorted(range(len(spans)), key=lambda place: pairs_seen(spans[place], longest))
    table = (everything, *spans)
    specs: list[LayerSpec] = []
    for block, of_layer in zip(plan_of(strata.config).blocks, use, strict=True):
        group = block.heads // block.kv_heads
        fits_NJ = (of_layer.seen_NH >= enough).reshape(len(spans), block.kv_heads, group).all(dim=2)
        places = [_first(cheapest_first, fits_NJ[:, head]) for head in range(block.kv_heads)]
        runs = runs_of(list(chain.from_iterable(repeat(place, group) for place in places)))
        specs.append(replace(strata.config.layer(block.index), spans=runs))
    config = with_layers(replace(strata.config, spans=table), specs)
    return rebuilt(config, state_of(strata))


def _first(cheapest_first: Sequence[int], fits_N: Tensor) -> int:
    """Returns the index of the cheapest span that fits into the table of all spans, whose first sees every key."""
    return next((place + 1 for place in cheapest_first if fits_N[place]), 0)


def _queries_and_keys(block: Block, x_TD: Tensor, layout: RaggedLayout) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields q_BHSD and k_BJSD of each group of texts of equal length."""
    plan: BlockPlan = block.plan
    qkv_TW = product(x_TD, block.qkv, full_precision)
    if plan.rope_base is not None:
        rotated = plan.heads + plan.kv_heads
        qkv_TW = rotary.rotate(
            qkv_TW, layout.positions_T, num_rotated=rotated, head_width=plan.head_width, base=plan.rope_base
        )
    for group in layout.groups:
        rows_RW = qkv_TW[group.start : group.start + group.num_rows]
        rows_BHSD = rows_RW.view(group.count, group.length, -1, plan.head_width).transpose(1, 2)
        yield rows_BHSD[:, : plan.heads], rows_BHSD[:, plan.heads : plan.heads + plan.kv_heads]


def _attention(q_BHSD: Tensor, k_BJSD: Tensor) -> Tensor:
    """Returns p_BHSS, the weight of every key for every query."""
    k_BHSD = k_BJSD.repeat_interleave(q_BHSD.shape[1] // k_BJSD.shape[1], dim=1)
    return (q_BHSD @ k_BHSD.mT / math.sqrt(q_BHSD.shape[3])).softmax(dim=3)


def _seen(p_BHSS: Tensor, q_BHSD: Tensor, k_BJSD: Tensor, span: Span) -> Tensor:
    """Returns the weight of the keys that the span leaves, summed over texts and queries [H]."""
    is_seen_BJSS = visible(q_BHSD, k_BJSD, span)
    group = q_BHSD.shape[1] // k_BJSD.shape[1]
    is_seen_BHSS = is_seen_BJSS.expand(-1, k_BJSD.shape[1], -1, -1).repeat_interleave(group, dim=1)
    return (p_BHSS * is_seen_BHSS).sum(dim=(0, 2, 3))


LENGTHS: Final = (64, 128, 256, 512, 1_024, 2_048, 4_096)
"""Tokens of the texts. Above the longest one, a span that sees fewer keys is faster anywhere."""

BUDGET_S: Final = 0.2
"""Processor time for each length and way, at least one call."""


def with_crossover(span: Span, config: StrataConfig) -> Span:
    """Returns the span with `dense_below` as it was measured here, unless it has one or sees every key.

    Where our kernels do not run, nothing is faster than all keys, but a span that has no `dense_below` stays as it is.
    """
    block = plan_of(config).blocks[0]
    if span.kind == "full" or span.dense_below or native.why_not() or why_not_head(block.head_width):
        return span
    lengths = [length for length in LENGTHS if length <= config.max_sequence]
    is_faster = [_is_faster(span, block, length) for length in lengths]
    return replace(span, dense_below=crossover(lengths, is_faster))


def crossover(lengths: Sequence[int], is_faster: Sequence[bool]) -> int:
    """Returns the first of the lengths from which on it is faster at all; one more than the last where there is none.

    >>> crossover([64, 128, 256], [True, False, True]), crossover([64, 128], [True, False]), crossover([], [])
    (256, 129, 0)
    """
    found = lengths[-1] + 1 if lengths else 0
    for length, faster in zip(reversed(lengths), reversed(is_faster), strict=True):
        if not faster:
            break
        found = length
    return found


def _is_faster(span: Span, block: BlockPlan, length: int) -> bool:
    """Whether attention of one text to the keys of `span` takes less time than to all keys: the shortest of each."""
    width = 3 * block.heads * block.head_width
    qkv_TW = torch.randn(length, width, generator=torch.Generator().manual_seed(length))
    call = partial(attention, qkv_TW, group_equal([0, length]), num_heads=block.heads)
    ways = [partial(call, spans=[(block.heads, each)]) for each in (span, Span(kind="full"))]
    ours_s, full_s = _shortest_s(ways)
    return ours_s < full_s


def _shortest_s(ways: Sequence[Callable[[], object]]) -> list[float]:
    """Returns the shortest processor time of each way; they take turns."""
    best_s = [float("inf")] * len(ways)
    end_s = time.process_time() + BUDGET_S * len(ways)
    while True:
        for place, way in enumerate(ways):
            start_s = time.process_time()
            way()
            best_s[place] = min(best_s[place], time.process_time() - start_s)
        if time.process_time() >= end_s:
            return best_s
