"""Measures from which length on a span of keys is faster than all keys, on this machine.

    span --attention of random texts, both in turns, on one thread--> the fewest tokens from which on it is faster

A router reads the bounds of all blocks before it reads keys, so on short texts a routed span is slower than all keys,
which also see more. Where these cross depends on the processor.

Rejected: a number for all machines (its place moves by a factor of four between them), and the time of whole encoders
(everything but the attention takes the same time in both).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import torch

from kernels import native
from kernels.attention import group_equal
from kernels.attention_i8.native import attention, why_not_head
from model.config import Span, StrataConfig
from model.plan import BlockPlan, plan_of

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
