"""The layer: torch's parameters and gradients, whichever implementation convolves."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from kernels import conv2d, native
from kernels.conv2d.training import Conv3x3
from kernels.native import build
from tests.kernels.conv2d.images import SHAPES, filters, images

WITHIN = 1e-4


@pytest.fixture(params=[*conv2d.MEASURED], ids=lambda impl: impl.name)
def _chosen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets each implementation of the table convolve in turn."""
    monkeypatch.setattr(conv2d, "_plan", lambda *_: request.param)


@pytest.fixture
def _without_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without a compiler."""
    monkeypatch.setattr(build, "HERE", tmp_path / "package")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", "no-such-compiler")
    native.library.cache_clear()
    with pytest.warns(native.NativeKernelsMissing):
        native.library()
    yield
    native.library.cache_clear()


def layers(num_in: int, num_out: int, *, bias: bool = True) -> tuple[Conv3x3, nn.Conv2d]:
    """Returns our layer, and torch's with the same parameters in float64."""
    ours = Conv3x3(num_in, num_out, bias=bias)
    torchs = nn.Conv2d(num_in, num_out, 3, padding=1, bias=bias)
    torchs.load_state_dict(ours.state_dict())
    return ours, torchs.double()


def near(found: Tensor | None, exact: Tensor | None) -> bool:
    assert found is not None
    assert exact is not None
    return bool((found - exact).abs().max() <= WITHIN * exact.abs().max())


@pytest.mark.usefixtures("_chosen")
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_torchs(bias: bool) -> None:
    torch.manual_seed(0)
    for num_images, num_in, num_out, height, width in SHAPES:
        ours, torchs = layers(num_in, num_out, bias=bias)
        x = images(num_images, num_in, height, width)
        x_ours = x.clone().requires_grad_()
        x_torchs = x.double().requires_grad_()
        y_ours, y_torchs = ours(x_ours), torchs(x_torchs)
        assert near(y_ours, y_torchs)
        grad = images(num_images, num_out, height, width, seed=2)
        y_ours.backward(grad)
        y_torchs.backward(grad.double())
        assert near(x_ours.grad, x_torchs.grad)
        assert near(ours.weight.grad, torchs.weight.grad)
        if bias:
            assert ours.bias is not None
            assert torchs.bias is not None
            assert near(ours.bias.grad, torchs.bias.grad)


def test_only_the_needed_gradients_are_computed() -> None:
    layer = Conv3x3(3, 4)
    layer.weight.requires_grad_(False)
    layer(images(1, 3, 5, 5)).sum().backward()
    assert layer.weight.grad is None
    assert layer.bias is not None
    assert layer.bias.grad is not None
    frozen = layer.requires_grad_(False)
    x_BCHW = images(1, 3, 5, 5).requires_grad_()
    frozen(x_BCHW).sum().backward()
    assert x_BCHW.grad is not None
    with torch.no_grad():
        assert not layer(images(1, 3, 5, 5)).requires_grad


@pytest.mark.usefixtures("_without_kernels")
def test_without_our_kernels_torch_convolves() -> None:
    layer = Conv3x3(3, 4)
    x_BCHW = images(2, 3, 5, 6)
    assert torch.equal(layer(x_BCHW), functional.conv2d(x_BCHW, layer.weight, layer.bias, padding=1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_convolved_by_torch(dtype: torch.dtype) -> None:
    layer = Conv3x3(3, 4).to(dtype)
    x_BCHW = images(2, 3, 5, 6).to(dtype)
    assert torch.equal(layer(x_BCHW), functional.conv2d(x_BCHW, layer.weight, layer.bias, padding=1))
    assert layer(x_BCHW[:0]).shape == (0, 4, 5, 6)


@pytest.mark.parametrize("shape", [(3, 5, 5), (1, 4, 5, 5), (1, 3, 0, 5)])
def test_bad_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images|size is \(0, 5\)"):
        Conv3x3(3, 4)(torch.zeros(shape))


def test_a_network_learns_the_side_of_a_bright_square() -> None:
    """Our layers and torch's, with equal weights, get the same losses at first, and the loss falls."""
    generator = torch.Generator().manual_seed(0)
    sides = torch.randint(0, 2, (32,), generator=generator)
    x_BCHW = torch.rand(32, 1, 12, 12, generator=generator) * 0.1
    for image, side in zip(x_BCHW, sides, strict=True):
        image[:, 4:8, int(side) * 8 : int(side) * 8 + 4] += 1
    losses: list[list[float]] = []
    for layer in (Conv3x3, lambda num_in, num_out: nn.Conv2d(num_in, num_out, 3, padding=1)):
        torch.manual_seed(0)
        network = nn.Sequential(
            *(layer(1, 16), nn.ReLU(), layer(16, 16), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 144, 2))
        )
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        losses.append([])
        for _ in range(15):
            loss = functional.cross_entropy(network(x_BCHW), sides)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses[-1].append(loss.item())
    ours, torchs = losses
    assert ours[:5] == pytest.approx(torchs[:5], rel=1e-3)
    assert ours[-1] < 0.5 * ours[0]


def test_filters_of_one_call_leave_the_layer_as_it_is() -> None:
    w_OC33, bias_O = filters(4, 3)
    layer = Conv3x3(3, 4)
    layer.load_state_dict({"weight": w_OC33, "bias": bias_O})
    layer(images(1, 3, 5, 5)).sum().backward()
    assert torch.equal(layer.weight, w_OC33)
