"""The sparse INT8 linear layer: every implementation gives the bits of the dense layer on the matrix with its zeros."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels import dispatch, linear_i8, native, sparse_i8
from kernels.dispatch import Impl
from kernels.encoder.weights import check_packed
from kernels.linear_i8.native import ADD, GELU, linear
from kernels.native import address
from kernels.sparse_i8 import IMPLS, LIBRARY, Pack, reference
from kernels.sparse_i8 import native as sparse_native
from kernels.sparse_i8.native import NATIVE, pack_fastest, pack_weight
from kernels.sparse_i8.reference import SparseWeight
from tests.kernels.linear_i8.layers import rows
from tests.kernels.sparse_i8.layers import weight
from tests.required import impossible


@pytest.fixture(params=(*NATIVE, *LIBRARY), ids=lambda impl: impl.name, scope="module")
def impl(request: pytest.FixtureRequest) -> Impl[Pack]:
    """Each implementation that can run here."""
    candidate: Impl[Pack] = request.param
    if reasons := candidate.why_unavailable():
        impossible("; ".join(reasons))
    return candidate


@pytest.fixture
def _unforced() -> Iterator[None]:
    dispatch.forced.cache_clear()
    yield
    dispatch.forced.cache_clear()


@pytest.mark.parametrize(("num_groups", "num_quads"), [(1, 1), (3, 16), (5, 31), (96, 96), (24, 384)])
def test_bits_equal_the_reference(impl: Impl[Pack], num_groups: int, num_quads: int) -> None:
    """For every number of rows up to a tile and around it."""
    for density in (0.0, 0.1, 0.5, 1.0):
        layer = weight(num_groups, num_quads, density=density)
        run = impl.run(layer)
        for num_rows in (*range(1, 18), 31, 50):
            x_MK = rows(num_rows, layer.num_in)
            assert torch.equal(run(x_MK), reference.linear(x_MK, layer)), (density, num_rows)


@given(st.integers(1, 6), st.integers(1, 40), st.floats(0, 1), st.integers(1, 40), st.integers(0, 1 << 30))
@settings(max_examples=60)
def test_every_instruction_set_gives_the_same_bits(
    num_groups: int, num_quads: int, density: float, num_rows: int, seed: int
) -> None:
    layer = weight(num_groups, num_quads, density=density, seed=seed)
    x_MK = rows(num_rows, layer.num_in, seed=seed)
    dense = layer.as_int8()
    expected = linear_i8.linear_i8(x_MK, linear_i8.pack(dense.q_NK, dense.scale_N, dense.bias_N))
    for candidate in NATIVE:
        if not candidate.why_unavailable():
            assert torch.equal(candidate.run(layer)(x_MK), expected), candidate.name


def test_empty_groups(impl: Impl[Pack]) -> None:
    """Groups of outputs without a block give their bias, at both ends and in the middle."""
    layer = weight(6, 20, density=0.6)
    mask_GQ = layer.mask_GQ.clone()
    mask_GQ[[0, 2, 3, 5]] = False
    emptied = SparseWeight(mask_GQ, reference.cut(layer.as_int8().q_NK)[mask_GQ], layer.scale_N, layer.bias_N)
    x_MK = rows(19, layer.num_in)
    y_MN = impl.run(emptied)(x_MK)
    assert torch.equal(y_MN, reference.linear(x_MK, emptied))
    assert layer.bias_N is not None
    assert torch.equal(y_MN[:, 32:64], layer.bias_N[32:64].expand(19, 32))


def test_extreme_sums_are_exact(impl: Impl[Pack]) -> None:
    mask_GQ = torch.ones(2, 384, dtype=torch.bool)
    blocks_BNQ = torch.full((768, 16, 4), 127, dtype=torch.int8)
    blocks_BNQ[:, 1::2] = -127
    layer = SparseWeight(mask_GQ, blocks_BNQ, torch.ones(32), None)
    x_MK = torch.full((20, 1536), 255.0)
    x_MK[:, 0] = 0.0
    assert torch.equal(impl.run(layer)(x_MK), reference.linear(x_MK, layer))
    assert reference.linear(x_MK, layer)[0, 0] == 255 * 127 * 1535


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    layer = weight(3, 96, density=0.2)
    packed = sparse_i8.pack(layer.mask_GQ, layer.blocks_BNQ, layer.scale_N, layer.bias_N)
    x_MK = rows(100, 384)
    alone = torch.cat([sparse_i8.sparse_i8(row, packed) for row in torch.split(x_MK, 7)])
    assert torch.equal(sparse_i8.sparse_i8(x_MK, packed), alone)
    assert sparse_i8.sparse_i8(x_MK[:0], packed).shape == (0, 48)


def test_sums_and_epilogues_are_those_of_the_dense_layer(isa: str) -> None:
    layer = weight(6, 24, density=0.3)
    sparse, dense = pack_weight(layer), linear_i8.native.pack_weight(layer.as_int8())
    x_MK = rows(37, 96)
    for epilogue in (GELU, ADD):
        results = []
        for packed in (sparse, dense):
            y_MN = torch.ones(37, 96)
            run = native.kernels(isa).linear
            native.raise_for_status(run(epilogue, address(x_MK), 37, address(packed), address(y_MN)))
            results.append(y_MN)
        assert torch.equal(*results)
    q_MK = torch.randint(256, (37, 96), dtype=torch.uint8)
    sums = []
    for packed in (sparse, dense):
        sums_MN = torch.empty(37, 96, dtype=torch.int32)
        native.raise_for_status(native.kernels(isa).accumulate(address(q_MK), 37, address(packed), address(sums_MN)))
        sums.append(sums_MN)
    assert torch.equal(*sums)


def test_a_packed_weight_has_the_header_of_a_dense_one() -> None:
    layer = weight(3, 8, density=0.5)
    packed = pack_weight(layer)
    check_packed("up", packed, (48, 32), bits=(8,))
    assert len(packed) % 64 == 0, "the next weight stays aligned"
    assert len(packed) == 64 + 64 * len(layer.blocks_BNQ) + 12 * 48 + 64


@pytest.mark.parametrize("is_sparse", [True, False])
def test_the_faster_layout_is_packed(monkeypatch: pytest.MonkeyPatch, *, is_sparse: bool) -> None:
    """The dense layout is chosen where it is faster, and gives the same bits."""
    monkeypatch.setattr(sparse_native, "_is_faster", lambda *_: is_sparse)
    layer = weight(3, 8, density=0.5)
    packed = pack_fastest(layer)
    expected = pack_weight(layer) if is_sparse else linear_i8.native.pack_weight(layer.as_int8())
    assert torch.equal(packed, expected)
    x_MK = rows(9, 32)
    assert torch.equal(linear(x_MK, packed, 48), reference.linear(x_MK, layer))


def test_layouts_are_measured_once_for_a_shape_and_density() -> None:
    sparse_native._is_faster.cache_clear()
    layer = weight(12, 48, density=0.2)
    assert torch.equal(pack_fastest(layer), pack_fastest(layer))
    assert sparse_native._is_faster.cache_info().misses == 1


@pytest.mark.usefixtures("_unforced")
@pytest.mark.parametrize("family", dispatch.FAMILIES)
def test_environment_decides(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, family)
    layer = weight(2, 3, density=0.5)
    able = [impl.name for impl in IMPLS if not impl.why_unavailable() and impl.belongs_to(family)]
    assert sparse_i8.pack(layer.mask_GQ, layer.blocks_BNQ, layer.scale_N).name == able[0]


BLOCKS = torch.zeros(2, 16, 4, dtype=torch.int8)
MASK = torch.tensor([[True, False, True]])


@pytest.mark.parametrize(
    ("mask_GQ", "blocks_BNQ", "scale_N", "bias_N", "message"),
    [
        (MASK.int(), BLOCKS, torch.ones(16), None, "mask_GQ is torch.int32"),
        (MASK[0], BLOCKS, torch.ones(16), None, r"mask_GQ is torch.bool \(3,\)"),
        (torch.zeros(1, 65537, dtype=torch.bool), BLOCKS[:0], torch.ones(16), None, "K <= 262144"),
        (MASK, BLOCKS[:1], torch.ones(16), None, r"blocks_BNQ is torch.int8 \(1, 16, 4\); expected int8 \[2, 16, 4\]"),
        (MASK, BLOCKS.int(), torch.ones(16), None, "blocks_BNQ is torch.int32"),
        (MASK, BLOCKS, torch.ones(15), None, r"scale_N is torch.float32 \(15,\)"),
        (MASK, BLOCKS, torch.ones(16), torch.ones(16).int(), "bias_N is torch.int32"),
    ],
)
def test_pack_refuses(
    mask_GQ: Tensor, blocks_BNQ: Tensor, scale_N: Tensor, bias_N: Tensor | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        sparse_i8.pack(mask_GQ, blocks_BNQ, scale_N, bias_N)


@pytest.mark.parametrize("x_MK", [torch.zeros(2, 7), torch.zeros(12), torch.zeros(2, 12, dtype=torch.float64)])
def test_linear_refuses(x_MK: Tensor) -> None:
    packed = sparse_i8.pack(MASK, BLOCKS, torch.ones(16))
    with pytest.raises(ValueError, match="expected float32 rows of 12 columns"):
        sparse_i8.sparse_i8(x_MK, packed)
