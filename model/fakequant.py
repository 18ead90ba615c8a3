"""Quantization-aware training: training against the rounding of the served kernels.

The forward pass of `fake_linear` runs `linear_i8` itself, with the INT8 weight as it would be published, so the two
cannot diverge. The backward pass is a straight-through estimator (Bengio et al., arXiv 1308.3432; the scheme is that of
Jacob et al., arXiv 1712.05877): each product is differentiated at the quantized values, and the gradient of rounding is
the identity.

Rejected: simulating the rounding in float32 (it differs from the kernel in the last bits, and is slower than it).

Shape suffixes: M tokens, K inputs, N outputs.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from kernels.linear_i8 import linear_i8, pack
from kernels.linear_i8.reference import quantize_rows
from model.linears import ScaledLinear, is_nested
from model.nested import MAX_Q8
from model.qtensor import check_finite
from model.quantize import MAX_W8C, round_rows


class _FakeLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_MK: Tensor, w_NK: Tensor, bias_N: Tensor | None, largest: int) -> Tensor:
        q_NK, scale_N = round_rows(w_NK, largest)
        parts = {"scale": scale_N}
        if bias_N is not None:
            bias_N = bias_N.detach()
            parts["bias"] = bias_N
        check_finite("weight", parts)
        q_MK, scale_M1, min_M1 = quantize_rows(x_MK.detach())
        ctx.save_for_backward(q_MK, scale_M1, min_M1, q_NK, scale_N)
        return linear_i8(x_MK.detach(), pack(q_NK, scale_N, bias_N, once=True))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        (grad_MN,) = grads
        q_MK, scale_M1, min_M1, q_NK, scale_N = ctx.saved_tensors
        needs_x, needs_w, needs_bias, _ = ctx.needs_input_grad
        grad_MK = grad_MN @ (q_NK.float() * scale_N.float()[:, None]) if needs_x else None
        grad_NK = grad_MN.t() @ torch.addcmul(min_M1, q_MK.float(), scale_M1) if needs_w else None
        grad_N = grad_MN.sum(dim=0) if needs_bias else None
        return grad_MK, grad_NK, grad_N, None


def fake_linear(x_MK: Tensor, w_NK: Tensor, bias_N: Tensor | None = None, *, largest: int = MAX_Q8) -> Tensor:
    """Returns y_MN as served from the float32 weight `w_NK`, with straight-through gradients for x, weight and bias.

    The weight is rounded to integers up to `largest`. Raises NonFinite.
    """
    return cast(Tensor, _FakeLinear.apply(x_MK, w_NK, bias_N, largest))  # type: ignore[no-untyped-call]


def fake_layer(x_MK: Tensor, layer: nn.Linear) -> Tensor:
    """Runs `fake_linear` with a layer of `Strata`, whose inputs are scaled as served."""
    largest = MAX_Q8 if is_nested(layer) else MAX_W8C
    if isinstance(layer, ScaledLinear):
        return fake_linear(x_MK * layer.in_scale, layer.weight / layer.in_scale, layer.bias, largest=largest)
    return fake_linear(x_MK, layer.weight, layer.bias, largest=largest)
