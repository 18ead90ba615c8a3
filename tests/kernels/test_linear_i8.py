"""The INT8 linear layer: every implementation against the definition, the definition against arithmetic."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels import dispatch, linear_i8
from kernels.dispatch import Impl
from kernels.linear_i8 import IMPLS, library, reference
from kernels.linear_i8.library import INT8, LIBRARY, Pack
from kernels.linear_i8.native import NATIVE
from kernels.linear_i8.reference import Int8Weight
from tests.kernels import tolerances

SIZES = (1, 3, 17, 123)
CACHED = (dispatch.forced, linear_i8._plan, linear_i8._plan_once)


@pytest.fixture(params=(*NATIVE, *LIBRARY), ids=lambda impl: impl.name, scope="module")
def impl(request: pytest.FixtureRequest) -> Impl[Pack]:
    """Each implementation that can run here."""
    candidate: Impl[Pack] = request.param
    if reasons := candidate.why_not():
        pytest.skip("; ".join(reasons))
    return candidate


def weight(num_out: int, num_in: int, *, seed: int = 0) -> Int8Weight:
    generator = torch.Generator().manual_seed(seed)
    q_NK = torch.randint(-127, 128, (num_out, num_in), dtype=torch.int8, generator=generator)
    scale_N = torch.rand(num_out, generator=generator) * 0.01
    return Int8Weight.of(q_NK, scale_N, torch.randn(num_out, generator=generator))


def rows(num_rows: int, num_in: int, *, seed: int = 1) -> Tensor:
    return torch.randn(num_rows, num_in, generator=torch.Generator().manual_seed(seed)) * 3 + 1


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


def test_integer_implementations_exist_here() -> None:
    """A machine without either still works, but five times slower: this test reports that."""
    able = [impl.name for impl in INT8 if not impl.why_not()]
    assert able, [impl.why_not() for impl in INT8]


def test_wrong_sums_are_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def saturating(w_NP: Tensor, scale_N: Tensor) -> library.Multiply:
        return lambda packed_MP: reference.accumulate(packed_MP, w_NP).clamp(-(1 << 15), (1 << 15) - 1) * scale_N

    assert library._impl("saturating", saturating).why_not() == [
        "saturating gives wrong sums for extreme values on this processor"
    ]


def test_an_absent_operation_is_a_reason() -> None:
    def absent(w_NP: Tensor, scale_N: Tensor) -> library.Multiply:
        raise RuntimeError("no such operator\nstack trace")

    (reason,) = library._impl("absent", absent).why_not()
    assert reason.endswith("has no absent here: no such operator")


@given(st.integers(1, 40), st.integers(1, 6), st.floats(1e-6, 1e6), st.integers(0, 1 << 30))
@settings(max_examples=60)
def test_rows_are_within_half_a_quantization_step(num_in: int, num_rows: int, size: float, seed: int) -> None:
    x_MK = rows(num_rows, num_in, seed=seed) * size
    q_MK, scale_M1, min_M1 = reference.quantize_rows(x_MK)
    found_MK = min_M1.double() + scale_M1.double() * q_MK.double()
    tolerances.assert_within(found_MK, x_MK.double(), tolerances.half_step(scale_M1) + reference.EPSILON)


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 1 << 30))
@settings(max_examples=60)
def test_packed_rows_are_the_quantized_rows(num_in: int, num_rows: int, seed: int) -> None:
    x_MK = rows(num_rows, num_in, seed=seed)
    packed_MP, packed_scale_M1, packed_min_M1 = library.pack_rows(x_MK)
    q_MK, scale_M1, min_M1 = reference.quantize_rows(x_MK)
    assert torch.equal(packed_MP[:, :num_in], q_MK)
    assert torch.equal(packed_scale_M1, scale_M1)
    assert torch.equal(packed_min_M1, min_M1)


def test_a_constant_row_is_exact() -> None:
    layer = weight(3, 8)
    x_MK = torch.full((1, 8), 5.0)
    exact = 5.0 * (layer.q_NK.double().sum(dim=1) * layer.scale_N.double()) + layer.bias_N.double()
    tolerances.assert_within(reference.linear(x_MK, layer)[0], exact, tolerances.epilogue(x_MK, layer)[0])


def test_result_is_near_the_float_product() -> None:
    """The error is at most half a quantization step of every input, and the epilogue's: the sums are exact."""
    layer = weight(64, 384)
    x_MK = rows(50, 384)
    _, scale_M1, _ = reference.quantize_rows(x_MK)
    w_NK = layer.q_NK.double() * layer.scale_N.double()[:, None]
    exact_MN = x_MK.double() @ w_NK.t() + layer.bias_N.double()
    bound_MN = tolerances.half_step(scale_M1) * w_NK.abs().sum(dim=1) + tolerances.epilogue(x_MK, layer)
    tolerances.assert_within(reference.linear(x_MK, layer), exact_MN, bound_MN)


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
    able = [impl.name for impl in IMPLS if not impl.why_not() and impl.belongs_to(family)]
    for once in (False, True):
        packed = linear_i8.pack(weight(3, 8).q_NK, torch.ones(3), once=once)
        expected = library.INT_MM.name if once and library.INT_MM.name in able else able[0]
        assert set(packed.names) == {expected}


@pytest.mark.usefixtures("_unplanned")
def test_measured_choice_is_made_once_per_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own C is left out here, as on a machine where it cannot run."""
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
