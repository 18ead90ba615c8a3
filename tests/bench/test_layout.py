"""Checks that the three orders compute the same sums, that misses are counted, and that the switches change no bit."""

from collections.abc import Sequence

import pytest
import torch

from bench import layout
from bench.layout import BLOCKED, ORDERS, PACKED, PLAIN, Cache, compiled, run_pass, simulated
from evals.results.row import Skip
from kernels import native
from kernels.encoder import BlockShape, BlockWeights
from kernels.encoder.weights import copy_contiguously
from kernels.linear_i8.native import linear, pack_weight
from tests.kernels.encoder.blocks import block
from tests.kernels.linear_i8.layers import rows, weight
from tests.required import impossible, missing

SHAPE = (128, 192)

LINE = 64
"""Bytes of a cache line."""


def test_a_simulated_cache_has_a_power_of_two_of_sets() -> None:
    assert Cache(32 << 10, 8, LINE).simulable == Cache(32 << 10, 8, LINE)
    assert Cache(503_316_480, 16, LINE).simulable == Cache(256 << 20, 16, LINE)
    assert Cache(48 << 10, 12, LINE).simulable == Cache(48 << 10, 12, LINE)


@pytest.mark.parametrize("isa", ["vnni", "avx2"])
def test_the_orders_compute_the_same_sums(monkeypatch: pytest.MonkeyPatch, isa: str) -> None:
    if reasons := native.why_unavailable(isa):
        impossible("; ".join(reasons))
    monkeypatch.setattr(layout, "ROWS", 12)
    program = compiled(isa)
    passes = {order: run_pass(program, order, SHAPE, passes=2) for order in ORDERS}
    assert len({each.checksum for each in passes.values()}) == 1
    assert all(each.us > 0 for each in passes.values())


def test_both_instruction_sets_compute_the_same_sums() -> None:
    for isa in ("vnni", "avx2"):
        if reasons := native.why_unavailable(isa):
            impossible("; ".join(reasons))
    assert len({run_pass(compiled(isa), PACKED, SHAPE, passes=1).checksum for isa in ("vnni", "avx2")}) == 1


def test_plain_weights_miss_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row of x reads all weights again if they exceed the first-level cache.

    The simulated cache has the same size on every machine. It holds a panel of weights (24 KiB) and all of x (9 KiB).
    """
    if reasons := native.why_unavailable("avx2"):
        impossible("; ".join(reasons))
    monkeypatch.setattr(layout, "SIMULATED_LAYERS", 1)
    monkeypatch.setattr(layout, "caches", lambda: (Cache(64 << 10, 8, LINE), Cache(32 << 20, 16, LINE)))
    shape = (1536, 384)
    try:
        misses = {order: simulated(compiled("avx2"), order, shape) for order in (PLAIN, PACKED)}
    except Skip as reason:
        missing("valgrind", str(reason))
    lines = shape[0] * shape[1] // LINE
    assert misses[PLAIN].first > 20 * lines
    assert lines <= misses[PACKED].first < 2 * lines


def test_an_unpacked_weight_gives_the_same_bits() -> None:
    if reasons := native.why_unavailable():
        impossible("; ".join(reasons))
    layer = weight(130, 96)
    x_MK = rows(19, 96)
    expected_MN = linear(x_MK, pack_weight(layer), 130)
    unpacked = layout.unpacked_library()
    with layout.replaced(native, "library", lambda: unpacked):
        packed = pack_weight(layer)
        found_MN = linear(x_MK, packed, 130, isa="vnni" if "vnni" in unpacked.kernels else None)
    assert not torch.equal(packed, pack_weight(layer)), "the weights lie in another order"
    assert torch.equal(found_MN, expected_MN)


def test_small_pages_hold_as_much() -> None:
    tensor = layout.small_page_tensor(1000)
    assert tensor.shape == (1000,)
    assert tensor.dtype == torch.uint8


def test_a_random_order_holds_the_same_matrices() -> None:
    shape = BlockShape(heads=2, kv_heads=2, head_width=32, inner=128)
    blocks = [block(64, shape) for _ in range(3)]
    in_order, shuffled = copy_contiguously(blocks), layout.in_random_order(blocks)
    for one, other in zip(in_order, shuffled, strict=True):
        for left, right in zip(one.matrices, other.matrices, strict=True):
            assert torch.equal(left.packed, right.packed)
    assert _places(in_order) == sorted(_places(in_order))
    assert _places(shuffled) != sorted(_places(shuffled))


def _places(blocks: Sequence[BlockWeights]) -> list[int]:
    return [matrix.packed.data_ptr() for block in blocks for matrix in block.matrices]


def test_orders_are_named_once() -> None:
    assert (PLAIN, BLOCKED, PACKED) == ORDERS
