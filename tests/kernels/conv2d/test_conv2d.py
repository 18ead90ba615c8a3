"""The choice of an implementation: all give the same result, the table is measured once, and bad shapes are refused."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from kernels import conv2d, dispatch
from kernels.conv2d import IMPLS, INT8_IMPLS, MEASURED, MEASURED_I8, Pack, PackI8, reference
from kernels.conv2d.reference import MAX_CHANNELS
from kernels.dispatch import Impl
from kernels.linear_i8.reference import Int8Weight
from tests.kernels.conv2d.images import SHAPES, extreme_images, filters, images, integer_filters
from tests.required import impossible

CACHED = (dispatch.forced, conv2d._plan, conv2d._plan_i8)


@pytest.fixture
def _unplanned() -> Iterator[None]:
    for cached in CACHED:
        cached.cache_clear()
    yield
    for cached in CACHED:
        cached.cache_clear()


def able(impl: Impl[Pack] | Impl[PackI8]) -> None:
    if reasons := impl.why_unavailable(1):
        impossible("; ".join(reasons))


@pytest.mark.parametrize("impl", IMPLS, ids=lambda impl: impl.name)
@pytest.mark.parametrize("adjoint", [False, True])
def test_floats_are_near_the_reference(impl: Impl[Pack], adjoint: bool) -> None:
    able(impl)
    for num_images, num_in, num_out, height, width in SHAPES:
        w_OC33, _ = filters(num_in, num_out) if adjoint else filters(num_out, num_in)
        bias = torch.arange(float(num_out))
        x_BCHW = images(num_images, num_in, height, width)
        exact = reference.conv2d(x_BCHW.double(), reference.adjoint(w_OC33) if adjoint else w_OC33, bias)
        found = impl.run(w_OC33, bias, adjoint)(x_BCHW)
        assert found.shape == exact.shape
        assert (found - exact).abs().max() <= 1e-4 * exact.abs().max()


@pytest.mark.parametrize("impl", INT8_IMPLS, ids=lambda impl: impl.name)
def test_integers_have_the_bits_of_the_reference(impl: Impl[PackI8]) -> None:
    able(impl)
    for num_images, num_in, num_out, height, width in SHAPES:
        x_BCHW = images(num_images, num_in, height, width)
        q_OC33, weight = integer_filters(num_out, num_in)
        assert torch.equal(impl.run(q_OC33, weight)(x_BCHW), reference.conv2d_i8(x_BCHW, q_OC33, weight))


def test_sums_of_the_library_are_exact() -> None:
    q_BCIJ, q_OC33 = extreme_images(256)
    assert torch.equal(conv2d._float_sums(q_BCIJ, q_OC33), reference.accumulate(q_BCIJ, q_OC33))


@pytest.mark.usefixtures("_unplanned")
@pytest.mark.parametrize("family", dispatch.FAMILIES)
def test_environment_decides(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, family)
    q_OC33, weight = integer_filters(3, 8)
    name = conv2d.pack(filters(3, 8)[0], size=(5, 5)).name
    assert name in {impl.name for impl in IMPLS if impl.belongs_to(family) and not impl.why_unavailable(8)}
    name = conv2d.pack_i8(q_OC33, weight.scale_N, size=(5, 5)).name
    assert name in {impl.name for impl in INT8_IMPLS if impl.belongs_to(family) and not impl.why_unavailable(8)}


@pytest.mark.usefixtures("_unplanned")
def test_measured_choice_is_made_once_per_shape() -> None:
    w_OC33, bias_O = filters(16, 16)
    q_OC33, weight = integer_filters(16, 16)
    state = torch.get_rng_state()
    first = conv2d.pack(w_OC33, bias_O, size=(8, 8))
    first_i8 = conv2d.pack_i8(q_OC33, weight.scale_N, size=(8, 8))
    assert first.name in {impl.name for impl in MEASURED}
    assert first_i8.name in {impl.name for impl in MEASURED_I8}
    assert conv2d.pack(-w_OC33, size=(8, 8)).name == first.name
    assert conv2d.pack_i8(-q_OC33, weight.scale_N, size=(8, 8)).name == first_i8.name
    assert torch.equal(torch.get_rng_state(), state), "measuring draws no random numbers"
    assert conv2d._plan.cache_info().misses == conv2d._plan_i8.cache_info().misses == 1


def test_too_many_channels_are_a_reason() -> None:
    direct, exact = MEASURED_I8
    assert exact.why_unavailable(MAX_CHANNELS) == direct.why_unavailable(MAX_CHANNELS + 1)
    assert "could exceed 32 bits" in exact.why_unavailable(MAX_CHANNELS + 1)[-1]


def test_packed_filters_convolve_images_of_every_size() -> None:
    q_OC33, weight = integer_filters(5, 3)
    packed = conv2d.pack_i8(q_OC33, weight.scale_N, weight.bias_N, size=(28, 28))
    for x_BCHW in (images(1, 3, 1, 1), images(2, 3, 31, 9)):
        assert torch.equal(conv2d.conv2d(x_BCHW, packed), reference.conv2d_i8(x_BCHW, q_OC33, weight))
    assert conv2d.conv2d(images(1, 3, 4, 5)[:0], packed).shape == (0, 5, 4, 5)


def test_missing_bias_is_zero() -> None:
    q_OC33, weight = integer_filters(5, 3)
    x_BCHW = images(1, 3, 4, 5)
    without = conv2d.pack_i8(q_OC33, weight.scale_N, size=(4, 5))
    expected = reference.conv2d_i8(x_BCHW, q_OC33, Int8Weight.of(q_OC33.flatten(1), weight.scale_N, None))
    assert torch.equal(conv2d.conv2d(x_BCHW, without), expected)


W = torch.zeros(3, 8, 3, 3)
Q = torch.zeros(3, 8, 3, 3, dtype=torch.int8)


@pytest.mark.parametrize(
    ("w_OC33", "bias_O", "size", "message"),
    [
        (W.double(), None, (4, 4), "w_OC33 is torch.float64"),
        (W[0], None, (4, 4), r"w_OC33 is torch.float32 \(8, 3, 3\)"),
        (W[:, :, :2], None, (4, 4), r"expected torch.float32 \[O, C, 3, 3\]"),
        (W[:0], None, (4, 4), r"w_OC33 is torch.float32 \(0, 8, 3, 3\)"),
        (W, torch.zeros(8), (4, 4), r"bias_O is torch.float32 \(8,\); expected torch.float32 \[3\]"),
        (W, torch.zeros(3).double(), (4, 4), "bias_O is torch.float64"),
        (W, None, (4, 0), r"size is \(4, 0\)"),
    ],
)
def test_pack_refuses(w_OC33: Tensor, bias_O: Tensor | None, size: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        conv2d.pack(w_OC33, bias_O, size=size)


@pytest.mark.parametrize(
    ("q_OC33", "scale_O", "bias_O", "message"),
    [
        (W, torch.ones(3), None, "q_OC33 is torch.float32"),
        (Q, torch.ones(4), None, r"scale_O is torch.float32 \(4,\); expected floats \[3\]"),
        (Q, torch.ones(3, dtype=torch.int32), None, "scale_O is torch.int32"),
        (Q, torch.ones(3), torch.ones(3, 1), r"bias_O is torch.float32 \(3, 1\)"),
    ],
)
def test_pack_i8_refuses(q_OC33: Tensor, scale_O: Tensor, bias_O: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        conv2d.pack_i8(q_OC33, scale_O, bias_O, size=(4, 4))


@pytest.mark.parametrize(
    "x_BCHW",
    [torch.zeros(8, 4, 4), torch.zeros(1, 7, 4, 4), torch.zeros(1, 8, 4, 4).double(), torch.zeros(1, 8, 4, 0)],
)
def test_conv2d_refuses(x_BCHW: Tensor) -> None:
    packed = conv2d.pack(W, size=(4, 4))
    with pytest.raises(ValueError, match="expected float32 images of 8 channels"):
        conv2d.conv2d(x_BCHW, packed)


def test_names_of_implementations() -> None:
    assert [impl.name for impl in IMPLS] == ["native/f4", "native/f2", "library/direct", "reference"]
    names = [impl.name for impl in INT8_IMPLS]
    assert names == ["native/direct", "native/exact_f2", "library/float", "reference"]
