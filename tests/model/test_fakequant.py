"""Training against the served rounding: forward is the kernel, backward passes straight through."""

import torch
from torch.nn import functional

from kernels.linear_i8 import linear_i8, pack, reference
from model.fakequant import fake_layer, fake_linear
from model.forward.library import LibraryForward
from model.quantize import quantize_n8g64
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


def test_gradients_are_those_of_the_product_of_rounded_values() -> None:
    q_MK, scale_M1, min_M1 = reference.quantize_rows(X_MK)
    rounded = [min_M1 + scale_M1 * q_MK, quantize_n8g64("w", W_NK).dequantize(), BIAS_N.clone()]
    leaves = [tensor.clone().requires_grad_() for tensor in (X_MK, W_NK, BIAS_N)]
    for tensor in rounded:
        tensor.requires_grad_()
    for inputs, linear in ((leaves, fake_linear), (rounded, functional.linear)):
        torch.autograd.backward(linear(*inputs).square().sum() / 2)
    for ours, theirs in zip(leaves, rounded, strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-3)


def test_only_asked_gradients_are_computed() -> None:
    w_NK = W_NK.clone().requires_grad_()
    y_MN = fake_linear(X_MK, w_NK)
    y_MN.sum().backward()  # type: ignore[no-untyped-call]
    assert w_NK.grad is not None and y_MN.shape == (9, 17)


def test_a_trained_top_is_what_will_be_served() -> None:
    """Full-precision blocks with fake rounding give the bits of the packed encoder in torch."""
    strata = small_strata(seed=5)
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
