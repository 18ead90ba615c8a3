"""Measures row E10: weights in the order in which the kernel reads them.

one product in three orders of memory    misses by cachegrind, simulated; times       bench/layout.c, layout.py
MiniLM with one order switched off       times of 64 texts, in turns
"""

import shutil
from collections.abc import Iterator

from bench.harness.case import Bar, Run, Technique
from bench.layout import (
    BLOCKED,
    NO_PACKING,
    ORDERS,
    PACKED,
    PLAIN,
    RANDOM_ORDER,
    SHAPES,
    SMALL_PAGES,
    WHOLE,
    compiled,
    encoder_ms,
    run_orders,
    simulated,
)
from evals.results.row import Row

SWITCHES = {"packing": NO_PACKING, "large_pages": SMALL_PAGES, "block_order": RANDOM_ORDER}


def measure(run: Run) -> Iterator[Row]:
    """Yields the worst shape of each bar, then the share of each switch. Raises Skip without compiler or valgrind."""
    shapes = SHAPES[:1] if run.is_quick else SHAPES
    avx512 = compiled("vnni")
    passes = {(shape, order): each for shape in shapes for order, each in run_orders(avx512, shape).items()}
    for bar, order in (("time", PLAIN), ("time_blocked", BLOCKED)):
        faster = {shape: passes[shape, order].us / passes[shape, PACKED].us for shape in shapes}
        note = ", ".join(
            f"{n} x {k}: {passes[(n, k), order].us:.0f} to {passes[(n, k), PACKED].us:.0f} us" for n, k in shapes
        )
        yield run.row(bar, round(min(faster.values()), 2), note=note)
    if run.is_quick and shutil.which("valgrind") is None:
        return
    run.say("simulating the caches")
    avx2 = compiled("avx2")
    misses = {(shape, order): simulated(avx2, order, shape).total for shape in shapes for order in ORDERS}
    for bar, order in (("misses", PLAIN), ("misses_blocked", BLOCKED)):
        saved = {shape: 100 * (1 - misses[shape, PACKED] / misses[shape, order]) for shape in shapes}
        note = ", ".join(f"{n} x {k}: {misses[(n, k), order]:,} to {misses[(n, k), PACKED]:,}" for n, k in shapes)
        yield run.row(bar, round(min(saved.values()), 1), note=note)
    if run.is_quick:
        return
    ms = encoder_ms()
    for bar, name in SWITCHES.items():
        note = f"{ms[WHOLE]:.2f} ms become {ms[name]:.2f} ms with {name}"
        yield run.row(bar, round(ms[name] / ms[WHOLE], 3), note=note)


TECHNIQUE = Technique(
    title="memory layout",
    claim="The article promises 53 % fewer cache misses by rearranging memory, without a baseline.",
    how=(
        "INT8 matrices of MiniLM's feed-forward part, the same sums in three orders of memory. `plain`: weights row "
        "by row, one output after the other. `blocked`: the tiles and loops of the kernel, on weights row by row. "
        "Misses are simulated by cachegrind with the sizes of the machine's first and last level (sets: a power of "
        "two), on an AVX2 build that reads in the kernel's order; times are of the AVX512 build. The worse of the "
        "two shapes counts. The encoder is timed on 64 texts, one thread, in turns."
    ),
    bars=(
        Bar("misses", "% fewer D1 + LL misses, simulated", ">= 53", quick=">= 53", baseline="plain row-major weights"),
        Bar("misses_blocked", "% fewer D1 + LL misses, simulated", baseline="the same tiles on row-major weights"),
        Bar("time", "times as fast", ">= 1.3", baseline="plain row-major weights"),
        Bar("time_blocked", "times as fast", ">= 1.15", baseline="the same tiles on row-major weights"),
        Bar("packing", "times as long without packing", baseline="the encoder as it is served in INT8"),
        Bar("large_pages", "times as long with pages of 4 KB", baseline="the encoder as it is served in INT8"),
        Bar("block_order", "times as long with matrices in a random order", baseline="the encoder as served in INT8"),
    ),
)
