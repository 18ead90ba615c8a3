"""Gives each head the cheapest span of keys that keeps its attention, and measures the length at which it is faster.

    H = - mean over queries of sum_S p_S log p_S      exp(H): the effective number of keys that a head attends to
    seen = mean over queries of the attention weight p_S on the keys within a span
    span --times attention of random texts, span and all keys in turns--> the shortest text on which it is faster

A head with low entropy, whose keys are near the query or at the start of the text, needs no other keys. A head that
attends to many keys has most of its weight outside of any narrow span. So spans are allocated by the attention weight
within them, and the entropies explain the result. DuoAttention (Xiao et al., arXiv 2410.10819) trains gates to find
such heads.

The texts must be about as long as the texts in service: in a short text a window contains every key.

The router of a `topk` span reads the bounds of all key blocks before it reads any keys. So on short texts a routed span
is slower than attention to all keys, which is also more accurate. The crossover length depends on the processor.

Shape suffixes: B texts of a group, S tokens of each, H heads, J key-value heads, D width of a head, N spans.
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
from kernels.attention import group_equal
from kernels.attention.spans import visible
from kernels.attention_i8.native import attention, why_not_head
from lifelong.compress.cost import pairs_seen
from lifelong.compress.heads import run_lengths
from model.config import LayerSpec, Span, StrataConfig
from model.errors import WrongConfig
from model.linears import full_precision
from model.plan import BlockPlan, build_plan
from model.ragged import RaggedBatch, RaggedLayout
from model.strata import Block, Strata, prepare_heads, rebuilt, state_of, with_layers

MAX_TOKENS = 2_048
"""Texts are truncated to this length: the attention weights of 12 heads then take 200 MB, and some copies."""

MAX_BATCH_PAIRS = 8 * 512**2
"""The most pairs of tokens in a batch, unless a single text has more. It bounds the memory of the attention weights."""


@dataclass(frozen=True, slots=True, eq=False)
class HeadAttention:
    """The measured attention of the heads of one layer.

    `entropy_H` is the entropy of the attention weights in nats. `seen_NH` is the attention weight within each span.
    """

    entropy_H: Tensor
    seen_NH: Tensor

    @property
    def num_keys_H(self) -> Tensor:
        """The effective number of keys that each head attends to (perplexity)."""
        return self.entropy_H.exp()


@torch.no_grad()
def measure_heads(strata: Strata, token_ids: Sequence[list[int]], spans: Sequence[Span]) -> list[HeadAttention]:
    """Returns the attention of the heads of each layer, the mean over all tokens of the texts.

    Texts are truncated to MAX_TOKENS.
    """
    blocks = build_plan(strata.config).blocks
    entropies = [torch.zeros(block.heads) for block in blocks]
    seen = [torch.zeros(len(spans), block.heads) for block in blocks]
    truncated = [ids[:MAX_TOKENS] for ids in token_ids]
    num_tokens = sum(map(len, truncated))
    for texts in _batches(truncated):
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
    return [HeadAttention(entropy_H, seen_NH) for entropy_H, seen_NH in zip(entropies, seen, strict=True)]


def _batches(token_ids: Sequence[list[int]]) -> Iterator[list[list[int]]]:
    """Yields the texts in order, in batches of at most MAX_BATCH_PAIRS or of one text."""
    batch: list[list[int]] = []
    for ids in token_ids:
        if batch and sum(len(each) ** 2 for each in (*batch, ids)) > MAX_BATCH_PAIRS:
            yield batch
            batch = []
        batch.append(ids)
    if batch:
        yield batch


def allocate(strata: Strata, use: Sequence[HeadAttention], spans: Sequence[Span], *, enough: float) -> Strata:
    """Returns the encoder in which each head has the cheapest span that contains `enough` of its attention weight.

    `use` is the result of `measure_heads` with the same spans, and `enough` is in [0, 1]. Heads that share keys get the
    same span, which contains enough for all of them. A head for which no span contains enough sees every key. Raises
    WrongConfig if the encoder has spans already.
    """
    if strata.config.spans:
        raise WrongConfig("the encoder has spans already; measure the encoder from which it was made")
    everything = Span(kind="full")
    longest = strata.config.max_sequence
    cheapest_first = sorted(range(len(spans)), key=lambda place: pairs_seen(spans[place], longest))
    table = (everything, *spans)
    specs: list[LayerSpec] = []
    for block, measured in zip(build_plan(strata.config).blocks, use, strict=True):
        group = block.heads // block.kv_heads
        fits_NJ = (measured.seen_NH >= enough).reshape(len(spans), block.kv_heads, group).all(dim=2)
        indices = [_cheapest_fit(cheapest_first, fits_NJ[:, head]) for head in range(block.kv_heads)]
        runs = run_lengths(list(chain.from_iterable(repeat(index, group) for index in indices)))
        specs.append(replace(strata.config.layer(block.index), spans=runs))
    config = with_layers(replace(strata.config, spans=table), specs)
    return rebuilt(config, state_of(strata))


def _cheapest_fit(cheapest_first: Sequence[int], fits_N: Tensor) -> int:
    """Returns the index of the cheapest span that fits, or 0 if none does.

    It is an index into the table of the encoder, in which the full span comes before the given spans.
    """
    return next((index + 1 for index in cheapest_first if fits_N[index]), 0)


def _queries_and_keys(block: Block, x_TD: Tensor, layout: RaggedLayout) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields q_BHSD and k_BJSD for each group of texts of equal length."""
    plan: BlockPlan = block.plan
    qkv_TW = prepare_heads(block.queries_keys_values(x_TD, full_precision), layout, plan, block.head_norms)
    for group in layout.groups:
        rows_RW = qkv_TW[group.start : group.start + group.num_rows]
        rows_BHSD = rows_RW.view(group.count, group.length, -1, plan.head_width).transpose(1, 2)
        yield rows_BHSD[:, : plan.heads], rows_BHSD[:, plan.heads : plan.heads + plan.kv_heads]


def _attention(q_BHSD: Tensor, k_BJSD: Tensor) -> Tensor:
    """Returns the attention weights p_BHSS of every query on every key."""
    k_BHSD = k_BJSD.repeat_interleave(q_BHSD.shape[1] // k_BJSD.shape[1], dim=1)
    return (q_BHSD @ k_BHSD.mT / math.sqrt(q_BHSD.shape[3])).softmax(dim=3)


def _seen(p_BHSS: Tensor, q_BHSD: Tensor, k_BJSD: Tensor, span: Span) -> Tensor:
    """Returns the attention weight within the span, summed over texts and queries, [H]."""
    is_seen_BJSS = visible(q_BHSD, k_BJSD, span)
    group = q_BHSD.shape[1] // k_BJSD.shape[1]
    is_seen_BHSS = is_seen_BJSS.expand(-1, k_BJSD.shape[1], -1, -1).repeat_interleave(group, dim=1)
    return (p_BHSS * is_seen_BHSS).sum(dim=(0, 2, 3))


LENGTHS: Final = (64, 128, 256, 512, 1_024, 2_048, 4_096)
"""The lengths of the timed texts in tokens. Above the longest, a span with fewer keys is faster on every processor."""

BUDGET_S: Final = 0.2
"""The processor time for timing each variant at each length. Each is called at least once."""


def with_crossover(span: Span, config: StrataConfig) -> Span:
    """Returns the span with a `dense_below` that is measured on this processor.

    The span is returned as it is if it has a `dense_below`, if it sees every key, or if our kernels do not run here.
    """
    block = build_plan(config).blocks[0]
    if span.kind == "full" or span.dense_below or native.why_unavailable() or why_not_head(block.head_width):
        return span
    lengths = [length for length in LENGTHS if length <= config.max_sequence]
    is_faster = [_is_faster(span, block, length) for length in lengths]
    return replace(span, dense_below=crossover(lengths, is_faster))


def crossover(lengths: Sequence[int], is_faster: Sequence[bool]) -> int:
    """Returns the smallest length from which on the span is always faster, or one more than the last length.

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
    """Whether attention within `span` is faster than attention to all keys, on a random text of `length` tokens."""
    width = 3 * block.heads * block.head_width
    qkv_TW = torch.randn(length, width, generator=torch.Generator().manual_seed(length))
    call = partial(attention, qkv_TW, group_equal([0, length]), num_heads=block.heads)
    variants = [partial(call, spans=[(block.heads, each)]) for each in (span, Span(kind="full"))]
    span_s, full_s = shortest_times_s(variants, BUDGET_S)
    return span_s < full_s


def shortest_times_s(variants: Sequence[Callable[[], object]], budget_s: float) -> list[float]:
    """Returns the shortest processor time of each variant, of the calls that fit into `budget_s` seconds for each.

    Each is called at least once. They take turns, so that noise affects all of them.
    """
    best_s = [float("inf")] * len(variants)
    end_s = time.process_time() + budget_s * len(variants)
    while True:
        for index, call in enumerate(variants):
            start_s = time.process_time()
            call()
            best_s[index] = min(best_s[index], time.process_time() - start_s)
        if time.process_time() >= end_s:
            return best_s
