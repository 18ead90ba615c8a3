"""Times sparse attention alone: its speed relative to full attention, and how its time grows with the length.

    python -m bench.sparse_attention

Prints, as JSON, milliseconds of processor time on one thread for each length: our sparse attention, and torch's fused
attention to all keys. Every head sees a window, sinks and routed blocks (`kernels.attention_i8.spans`), which are about
430 keys of any text. Both get queries, keys and values in their fastest layout: ours in panels, as the encoder stores
them, torch's head by head.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from statistics import linear_regression
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from bench.harness.case import Run
from bench.harness.process import run_module
from bench.harness.timing import fastest_call_s
from evals.results.row import Peer, Row
from kernels.allocator import huge_page_tensor, keep_freed_memory
from kernels.attention import group_equal
from kernels.attention_i8.native import PANEL, attention
from model.config import Span

LENGTHS = (1024, 2048, 4096, 8192, 16384)
MAX_FULL_LENGTH = 8192
"""The longest text for full attention, which would take 6 s for a longer one."""
SLOPE_FROM = 2048
"""The shortest text of the slope. Shorter texts have only a few tiles."""

OURS = "ours"
TORCH = "torch's fused attention"
NUM_HEADS = 12
HEAD_WIDTH = 32
SPAN = Span(kind="topk", window=64, sinks=4, block=64, topk=4)
BUDGET_S = 1.0


@torch.no_grad()
def times_ms(length: int) -> dict[str, float]:
    """Returns the shortest time of several calls in ms, of our attention and, up to MAX_FULL_LENGTH, of torch's."""
    q_HSD, k_HSD, v_HSD = torch.randn(3, NUM_HEADS, length, HEAD_WIDTH)
    rows_TW = torch.stack((q_HSD, k_HSD, v_HSD)).permute(2, 0, 1, 3).reshape(length, -1)
    panels = huge_page_tensor(4 * rows_TW.numel()).view(torch.float32).view(-1, length, PANEL)
    panels.copy_(rows_TW.view(length, -1, PANEL).transpose(0, 1))
    groups = group_equal([0, length])
    ours = partial(attention, panels, groups, num_heads=NUM_HEADS, spans=[(NUM_HEADS, SPAN)])
    times = {OURS: 1e3 * fastest_call_s(ours, BUDGET_S)}
    if length <= MAX_FULL_LENGTH:
        full = partial(scaled_dot_product_attention, q_HSD[None], k_HSD[None], v_HSD[None])
        times[TORCH] = 1e3 * fastest_call_s(full, BUDGET_S)
    return times


def slope(ms_by_length: Mapping[int, float]) -> float:
    """Returns the slope of log time over log length, from SLOPE_FROM on. 1 is linear.

    >>> round(slope({1024: 9.0, 2048: 1.0, 4096: 2.0, 8192: 4.0}), 6)
    1.0
    """
    lengths = [length for length in ms_by_length if length >= SLOPE_FROM]
    logarithms = [math.log(ms_by_length[length]) for length in lengths]
    return linear_regression([math.log(length) for length in lengths], logarithms).slope


GOALS = {4096: ">= 10x", 8192: ">= 20x"}
SLOPE = "<= 1.15"


def measure(run: Run) -> Iterator[Row]:
    yield from make_rows(run_module("bench.sparse_attention"))


def make_rows(measured: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """Yields a row for each length, and the slope of log time over log length. 1 is linear."""
    for each in measured:
        length = each["length"]
        ours, *peers = (Peer(name, round(1e3 * length / ms)) for name, ms in each["ms"].items())
        name = f"sparse_attention.{length}"
        yield Row.of(name, ours.value, "tokens/s", goal=GOALS.get(length), peers=tuple(peers))
    steepness = round(slope({each["length"]: each["ms"]["ours"] for each in measured}), 3)
    yield Row.of("sparse_attention.slope", steepness, "log ms / log tokens", goal=SLOPE)


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    print(json.dumps([{"length": length, "ms": times_ms(length)} for length in LENGTHS]))


if __name__ == "__main__":
    main()
