"""Quantization-aware training: the forward pass is the kernel, and the backward pass is straight-through."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from kernels import linear_i4
from kernels.linear_i8 import linear_i8, pack, reference
from model.errors import NonFinite
from model.fakequant import fake_layer, fake_linear
from model.forward.library import LibraryForward
from model.grid import Grid, attach_grids
from model.nested import MAX_Q8
from model.qtensor import QTensor
from model.quantize import quantize_n8g64, quantize_on, quantize_w4g64
from model.quantized import INT8, QuantizedEncoder
from model.ragged import RaggedBatch
from model.weights import encoder_tensors
from tests.model.small_encoder import SMALL, small_strata

GENERATOR = torch.Generator().manual_seed(0)
X_MK = torch.randn(9, 64, generator=GENERATOR)
W_NK = torch.randn(17, 64, generator=GENERATOR)
BIAS_N = torch.randn(17, generator=GENERATOR)


def test_forward_is_the_served_layer() -> None:
    stored = quantize_n8g64("w", W_NK, BIAS_N)
    packed = pack(stored.q_NK, stored.parts["scale"], stored.bias)
    assert torch.equal(fake_linear(X_MK, W_NK, BIAS_N), linear_i8(X_MK, packed))
    assert torch.allclose(fake_linear(X_MK, W_NK, BIAS_N), functional.linear(X_MK, W_NK, BIAS_N), atol=0.3)


def served(stored: QTensor, x_MK: Tensor) -> Tensor:
    """Returns y_MN of the kernel that replicas run: INT4 for a weight that is INT4 alone, and INT8 otherwise."""
    if stored.scheme == "n8g64":
        return linear_i8(x_MK, pack(stored.q_NK, stored.parts["scale"], stored.bias))
    packed = linear_i4.pack(stored.parts["hi"], stored.parts["m"], stored.parts["scale"], stored.bias)
    return linear_i4.linear_i4(x_MK, packed)


@pytest.mark.parametrize("quantize", [quantize_n8g64, quantize_w4g64], ids=["n8g64", "w4g64"])
@given(st.integers(1, 9), st.integers(1, 20), st.integers(1, 3), st.floats(0, 2), st.integers(0, 1 << 30))
@settings(max_examples=40)
def test_on_a_grid_the_forward_is_the_kernel_bit_for_bit(
    quantize: Callable[..., QTensor], num_rows: int, num_out: int, num_groups: int, size: float, seed: int
) -> None:
    """This holds after weights and scales have changed, too."""
    generator = torch.Generator().manual_seed(seed)
    x_MK, w_NK, move_NK = (
        torch.randn(rows, 64 * num_groups, generator=generator) for rows in (num_rows, num_out, num_out)
    )
    grid = Grid.from_tensor(quantize("w", w_NK))
    torch.nn.init.normal_(grid.shift_N, std=0.1, generator=generator)
    w_NK += size * move_NK
    bias_N = torch.randn(num_out, generator=generator)
    stored = quantize_on("w", grid, w_NK, bias_N)
    assert torch.equal(fake_linear(x_MK, w_NK, bias_N, grid), served(stored, x_MK))


def test_gradients_reach_weights_within_the_range_and_scales() -> None:
    grid = Grid.from_tensor(quantize_w4g64("w", W_NK))
    w_NK = (2 * W_NK).requires_grad_()
    fake_linear(X_MK, w_NK, BIAS_N, grid).square().sum().backward()  # type: ignore[no-untyped-call]
    assert grid.shift_N.grad is not None and w_NK.grad is not None
    assert (grid.shift_N.grad != 0).all()
    assert (w_NK.grad == 0).any() and (w_NK.grad != 0).any()


@pytest.mark.parametrize("values", [MAX_Q8, Grid.from_tensor(quantize_w4g64("w", W_NK))])
def test_a_weight_that_is_not_finite_is_refused(values: Grid | int) -> None:
    w_NK = W_NK.clone()
    w_NK[0, 0] = torch.nan
    with pytest.raises(NonFinite):
        fake_linear(X_MK, w_NK, BIAS_N, values)


def test_gradients_are_those_of_the_product_of_rounded_values() -> None:
    q_MK, scale_M1, min_M1 = reference.quantize_rows(X_MK)
    rounded = [min_M1 + scale_M1 * q_MK, quantize_n8g64("w", W_NK).dequantize(), BIAS_N.clone()]
    leaves = [tensor.clone().requires_grad_() for tensor in (X_MK, W_NK, BIAS_N)]
    for tensor in rounded:
        tensor.requires_grad_()
    for inputs, linear in ((leaves, fake_linear), (rounded, functional.linear)):
        x_MK, w_NK, bias_N = inputs
        torch.autograd.backward(linear(x_MK, w_NK, bias_N).square().sum() / 2)
    for ours, theirs in zip(leaves, rounded, strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-3)


def test_only_asked_gradients_are_computed() -> None:
    w_NK = W_NK.clone().requires_grad_()
    y_MN = fake_linear(X_MK, w_NK)
    y_MN.sum().backward()  # type: ignore[no-untyped-call]
    assert w_NK.grad is not None and y_MN.shape == (9, 17)


def test_a_trained_top_is_what_will_be_served() -> None:
    """Full-precision blocks with fake rounding give the same bits as the packed encoder in torch."""
    strata = small_strata(seed=5)
    attach_grids(strata, encoder_tensors(strata))
    tensors = encoder_tensors(strata)
    served = QuantizedEncoder(SMALL, {INT8: LibraryForward(SMALL, tensors, INT8)})
    native = QuantizedEncoder.from_tensors(SMALL, tensors)
    batch = RaggedBatch.of([[4, 5, 6, 7], [3], [8, 9]])
    for layer in range(SMALL.n_layers + 1):
        over_served = strata.forward_from(layer, served.encode_prefix(batch, layer), batch.layout, linear=fake_layer)
        over_native = strata.forward_from(layer, native.encode_prefix(batch, layer), batch.layout, linear=fake_layer)
        assert torch.equal(over_served, served.encode(batch))
        assert (over_native * native.encode(batch)).sum(dim=1).min() > 0.999


def test_steps_against_the_rounding_lower_the_loss() -> None:
    w_NK = W_NK.clone().requires_grad_()
    target_MN = torch.randn(9, 17, generator=GENERATOR)
    losses: list[float] = []
    for _ in range(40):
        loss = (fake_linear(X_MK, w_NK) - target_MN).square().mean()
        (grad_NK,) = torch.autograd.grad(loss, w_NK)
        w_NK = (w_NK - 0.01 * grad_NK).detach().requires_grad_()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
