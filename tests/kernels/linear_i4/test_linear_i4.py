"""The INT4 linear layer: every implementation gives the bits of the definition."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels import dispatch, linear_i4, linear_i8
from kernels.linear_i4 import IMPLS, LIBRARY, Pack, reference
from kernels.linear_i4.native import NATIVE
from kernels.linear_i4.reference import GROUP, Int4Weight
from tests.kernels.linear_i4.layers import rows, weight
from tests.required import impossible

HI = torch.zeros(3, 32, dtype=torch.uint8)
M = torch.ones(3, 1, dtype=torch.uint8)
SCALE = torch.ones(3)


@pytest.fixture(params=(*NATIVE, *LIBRARY), ids=lambda impl: impl.name, scope="module")
def impl(request: pytest.FixtureRequest) -> dispatch.Impl[Pack]:
    """Each implementation that can run here."""
    candidate: dispatch.Impl[Pack] = request.param
    if reasons := candidate.why_unavailable():
        impossible("; ".join(reasons))
    return candidate


@pytest.fixture
def _unforced() -> Iterator[None]:
    for cached in (dispatch.forced, linear_i8._plan_once):
        cached.cache_clear()
    yield
    for cached in (dispatch.forced, linear_i8._plan_once):
        cached.cache_clear()


@given(st.integers(1, 70), st.integers(1, 40), st.integers(1, 3), st.integers(0, 1 << 30))
@settings(max_examples=40)
def test_bits_equal_the_reference(
    impl: dispatch.Impl[Pack], num_rows: int, num_out: int, num_groups: int, seed: int
) -> None:
    layer = weight(num_out, num_groups, seed=seed)
    x_MK = rows(num_rows, num_groups * GROUP, seed=seed)
    assert torch.equal(impl.run(layer)(x_MK), reference.linear(x_MK, layer))


@pytest.mark.parametrize(("num_out", "num_groups"), [(32, 1), (96, 6), (192, 24)])
def test_whole_tiles(impl: dispatch.Impl[Pack], num_out: int, num_groups: int) -> None:
    """Weights without a remainder, for rows that fill a tile, a block of them, or neither."""
    layer = weight(num_out, num_groups)
    run = impl.run(layer)
    for num_rows in (1, 6, 7, 16, 17, 33, 130):
        x_MK = rows(num_rows, num_groups * GROUP)
        assert torch.equal(run(x_MK), reference.linear(x_MK, layer)), num_rows


@pytest.mark.parametrize("num_out", [5, 32])
@pytest.mark.parametrize(("hi", "sign"), [(0x88, -128), (0x77, 112)])
def test_extreme_sums_are_exact(impl: dispatch.Impl[Pack], hi: int, sign: int, num_out: int) -> None:
    hi_NJ = torch.full((num_out, 768), hi, dtype=torch.uint8)
    layer = Int4Weight(hi_NJ, torch.full((num_out, 24), 16, dtype=torch.uint8), torch.ones(num_out), None)
    x_MK = torch.full((20, 1536), 255.0)
    x_MK[:, 0] = 0.0
    assert torch.equal(impl.run(layer)(x_MK), torch.full((20, num_out), 255.0 * sign * 1535))


@pytest.mark.parametrize("num_rows", [0, 1, 5, 300])
def test_any_number_of_rows(num_rows: int) -> None:
    layer = weight(33, 2)
    x_MK = rows(num_rows, 128)
    y_MN = linear_i4.linear_i4(x_MK, linear_i4.pack(layer.hi_NJ, layer.m_NG, layer.scale_N, layer.bias_N))
    assert y_MN.shape == (num_rows, 33)
    if num_rows:
        assert torch.equal(y_MN, reference.linear(x_MK, layer))


def test_missing_bias_is_zero() -> None:
    layer = weight(5, 1)
    x_MK = rows(3, 64)
    with_zero = linear_i4.pack(layer.hi_NJ, layer.m_NG, layer.scale_N, torch.zeros(5))
    without = linear_i4.pack(layer.hi_NJ, layer.m_NG, layer.scale_N)
    assert torch.equal(linear_i4.linear_i4(x_MK, with_zero), linear_i4.linear_i4(x_MK, without))


def test_strided_planes_and_rows() -> None:
    layer = weight(6, 4)
    x_MK = rows(7, 256)[:, ::2]
    hi_NJ = layer.hi_NJ[::2, ::2]
    m_NG = layer.m_NG[::2, ::2]
    packed = linear_i4.pack(hi_NJ, m_NG, layer.scale_N[::2])
    whole = Int4Weight(hi_NJ.contiguous(), m_NG.contiguous(), layer.scale_N[::2], None)
    assert torch.equal(linear_i4.linear_i4(x_MK, packed), reference.linear(x_MK.contiguous(), whole))


@pytest.mark.usefixtures("_unforced")
@pytest.mark.parametrize("family", ["reference", "library"])
def test_environment_decides(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, family)
    assert linear_i4.pack(HI, M, SCALE).name.split("/")[0] == family


@pytest.mark.parametrize(
    ("hi_NJ", "m_NG", "scale_N", "bias_N", "message"),
    [
        (HI.char(), M, SCALE, None, r"hi_NJ is torch.int8 \(3, 32\)"),
        (HI[0], M, SCALE, None, r"hi_NJ is torch.uint8 \(32,\)"),
        (HI[:0], M, SCALE, None, r"hi_NJ is torch.uint8 \(0, 32\)"),
        (HI[:, :0], M, SCALE, None, r"hi_NJ is torch.uint8 \(3, 0\)"),
        (HI[:, :31], M, SCALE, None, r"hi_NJ is torch.uint8 \(3, 31\); .* multiple of 64"),
        (HI, M.int(), SCALE, None, r"m_NG is torch.int32 \(3, 1\); expected uint8 \[3, 1\]"),
        (HI, M[:2], SCALE, None, r"m_NG is torch.uint8 \(2, 1\); expected uint8 \[3, 1\]"),
        (HI, M[:, 0], SCALE, None, r"m_NG is torch.uint8 \(3,\)"),
        (HI, M * 0, SCALE, None, "m_NG has values from 0 to 0; expected 1 to 16"),
        (HI, M * 17, SCALE, None, "m_NG has values from 17 to 17; expected 1 to 16"),
        (HI, M, SCALE.int(), None, "scale_N is torch.int32"),
        (HI, M, SCALE[:2], None, r"scale_N is torch.float32 \(2,\); expected floats \[3\]"),
        (HI, M, SCALE, torch.ones(3, 1), r"bias_N is torch.float32 \(3, 1\)"),
    ],
)
def test_pack_refuses(hi_NJ: Tensor, m_NG: Tensor, scale_N: Tensor, bias_N: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        linear_i4.pack(hi_NJ, m_NG, scale_N, bias_N)


@pytest.mark.parametrize("x_MK", [torch.zeros(2, 63), torch.zeros(64), torch.zeros(2, 64, dtype=torch.float64)])
def test_linear_refuses(x_MK: Tensor) -> None:
    with pytest.raises(ValueError, match="expected float32 rows of 64 columns"):
        linear_i4.linear_i4(x_MK, linear_i4.pack(HI, M, SCALE))


def test_names_of_implementations() -> None:
    natives = ["native/amx", "native/vnni", "native/avx2", "native/plain"]
    assert [impl.name for impl in IMPLS] == [*natives, "library/unpacked", "reference"]
