"""The INT8 linear layer: every implementation gives the bits of the definition, and each weight gets one of them."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from kernels import dispatch, linear_i8
from kernels.dispatch import Impl
from kernels.linear_i8 import IMPLS, library, reference
from kernels.linear_i8.library import INT8, LIBRARY, Pack
from kernels.linear_i8.native import NATIVE
from kernels.linear_i8.reference import Int8Weight
from tests.kernels.linear_i8.layers import rows, weight
from tests.required import impossible

SIZES = (1, 3, 17, 123)
CACHED = (dispatch.forced, linear_i8._plan, linear_i8._plan_once)


@pytest.fixture(params=(*NATIVE, *LIBRARY), ids=lambda impl: impl.name, scope="module")
def impl(request: pytest.FixtureRequest) -> Impl[Pack]:
    """Each implementation that can run here."""
    candidate: Impl[Pack] = request.param
    if reasons := candidate.why_unavailable():
        impossible("; ".join(reasons))
    return candidate


@pytest.fixture
def _unplanned() -> Iterator[None]:
    for cached in CACHED:
        cached.cache_clear()
    yield
    for cached in CACHED:
        cached.cache_clear()


@pytest.mark.parametrize("num_in", [*SIZES, 384, 1536])
def test_bits_equal_the_reference(impl: Impl[Pack], num_in: int) -> None:
    for num_out in SIZES:
        layer = weight(num_out, num_in)
        run = impl.run(layer)
        for num_rows in (*SIZES, 200):
            x_MK = rows(num_rows, num_in)
            assert torch.equal(run(x_MK), reference.linear(x_MK, layer)), (num_rows, num_out)


@pytest.mark.parametrize(("num_out", "num_in"), [(32, 64), (96, 384), (192, 1536), (64, 8192), (64, 8256)])
def test_whole_tiles(impl: Impl[Pack], num_out: int, num_in: int) -> None:
    """Weights without a remainder, for rows that fill a tile, a block of them, or neither."""
    layer = weight(num_out, num_in)
    run = impl.run(layer)
    for num_rows in (1, 6, 7, 16, 17, 32, 33, 49, 130):
        x_MK = rows(num_rows, num_in)
        assert torch.equal(run(x_MK), reference.linear(x_MK, layer)), num_rows


@pytest.mark.parametrize("num_out", [5, 32])
def test_extreme_sums_are_exact(impl: Impl[Pack], num_out: int) -> None:
    q_NK = torch.full((num_out, 1536), 127, dtype=torch.int8)
    q_NK[1::2] = -127
    layer = Int8Weight.of(q_NK, torch.ones(num_out), None)
    x_MK = torch.full((20, 1536), 255.0)
    x_MK[:, 0] = 0.0
    assert torch.equal(impl.run(layer)(x_MK), reference.linear(x_MK, layer))
    assert reference.linear(x_MK, layer)[0, 0] == 255 * 127 * 1535


def test_strided_rows(impl: Impl[Pack]) -> None:
    layer = weight(17, 24)
    for x_MK in (rows(24, 7).t(), rows(7, 48)[:, ::2], rows(14, 24)[::2]):
        assert torch.equal(impl.run(layer)(x_MK), reference.linear(x_MK.contiguous(), layer))


@pytest.mark.parametrize("num_rows", [0, 1, 4, 5, 32, 33, 300])
def test_every_class_of_rows_gives_the_same_bits(num_rows: int) -> None:
    layer = weight(33, 20)
    packed = linear_i8.pack(layer.q_NK, layer.scale_N, layer.bias_N)
    x_MK = rows(num_rows, 20)
    y_MN = linear_i8.linear_i8(x_MK, packed)
    assert y_MN.shape == (num_rows, 33)
    if num_rows:
        assert torch.equal(y_MN, reference.linear(x_MK, layer))


def test_a_weight_for_one_call_gives_the_same_bits() -> None:
    layer = weight(33, 20)
    x_MK = rows(40, 20)
    packed = linear_i8.pack(layer.q_NK, layer.scale_N, layer.bias_N, once=True)
    assert torch.equal(linear_i8.linear_i8(x_MK, packed), reference.linear(x_MK, layer))


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    layer = weight(48, 384)
    packed = linear_i8.pack(layer.q_NK, layer.scale_N, layer.bias_N)
    x_MK = rows(300, 384)
    together = linear_i8.linear_i8(x_MK, packed)
    alone = torch.cat([linear_i8.linear_i8(row, packed) for row in torch.split(x_MK, 7)])
    assert torch.equal(together, alone)


@pytest.mark.usefixtures("_unplanned")
@pytest.mark.parametrize("family", dispatch.FAMILIES)
def test_environment_decides(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, family)
    able = [impl.name for impl in IMPLS if not impl.why_unavailable() and impl.belongs_to(family)]
    for once in (False, True):
        packed = linear_i8.pack(weight(3, 8).q_NK, torch.ones(3), once=once)
        expected = library.INT_MM.name if once and library.INT_MM.name in able else able[0]
        assert set(packed.names) == {expected}


@pytest.mark.usefixtures("_unplanned")
def test_measured_choice_is_made_once_per_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own C is excluded, as on a machine where it cannot run."""
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    monkeypatch.setattr(linear_i8, "IMPLS", (*LIBRARY, linear_i8.REFERENCE))
    layer = weight(3, 8)
    first = linear_i8.pack(layer.q_NK, layer.scale_N)
    assert set(first.names) <= {impl.name for impl in INT8}
    assert linear_i8.pack(layer.q_NK, layer.scale_N).names == first.names
    assert linear_i8._plan.cache_info().misses == 1


def test_missing_bias_is_zero() -> None:
    layer = weight(5, 16)
    with_zero = linear_i8.pack(layer.q_NK, layer.scale_N, torch.zeros(5))
    without = linear_i8.pack(layer.q_NK, layer.scale_N)
    x_MK = rows(3, 16)
    assert torch.equal(linear_i8.linear_i8(x_MK, with_zero), linear_i8.linear_i8(x_MK, without))


@pytest.mark.parametrize(
    ("q_NK", "scale_N", "bias_N", "message"),
    [
        (torch.zeros(3, 8), torch.ones(3), None, "q_NK is torch.float32"),
        (torch.zeros(8, dtype=torch.int8), torch.ones(3), None, "q_NK is torch.int8"),
        (torch.zeros(3, 0, dtype=torch.int8), torch.ones(3), None, "q_NK is torch.int8"),
        (torch.zeros(3, 8, dtype=torch.int8), torch.ones(4), None, r"scale_N is torch.float32 \(4,\)"),
        (torch.zeros(3, 8, dtype=torch.int8), torch.ones(3), torch.ones(3, 1), r"bias_N is torch.float32 \(3, 1\)"),
        (torch.zeros(3, 8, dtype=torch.int8), torch.ones(3, dtype=torch.int32), None, "scale_N is torch.int32"),
    ],
)
def test_pack_refuses(q_NK: Tensor, scale_N: Tensor, bias_N: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        linear_i8.pack(q_NK, scale_N, bias_N)


@pytest.mark.parametrize("x_MK", [torch.zeros(2, 7), torch.zeros(8), torch.zeros(2, 8, dtype=torch.float64)])
def test_linear_refuses(x_MK: Tensor) -> None:
    packed = linear_i8.pack(torch.ones(3, 8, dtype=torch.int8), torch.ones(3))
    with pytest.raises(ValueError, match="expected float32 rows of 8 columns"):
        linear_i8.linear_i8(x_MK, packed)


def test_names_of_implementations() -> None:
    names = [impl.name for impl in IMPLS]
    assert names[:4] == ["native/amx", "native/vnni", "native/avx2", "native/plain"]
    assert names[4:] == ["library/onednn", "library/int_mm", "library/float", "reference"]
