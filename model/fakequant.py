"""Training against the rounding of the served kernels.

`fake_linear` computes forward exactly what `linear_i8` computes with the INT8 weight as it would be published: it runs
that code, so there is nothing to keep equal. Backward it passes gradients straight through the rounding (Bengio
et al., arXiv 1308.3432; the scheme is that of Jacob et al., arXiv 1712.05877): each product is differentiated at the
quantized values, and rounding counts as the identity.

Rejected: simulating the rounding in float32 (differs from the kernel in the last bits, and is slower than the kernel).

Shape suffixes: M tokens, K inputs, N outputs.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from kernels.linear_i8 import linear_i8, pack
from kernels.linear_i8.reference import quantize_rows
from model.nested import MAX_Q8
from model.qtensor import check_finite
from model.quantize import round_rows
from model.strata import ScaledLinear


class _FakeLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_MK: Tensor, w_NK: Tensor, bias_N: Tensor | None) -> Tensor:
        q_NK, scale_N = round_rows(w_NK, MAX_Q8)
        check_finite("weight", {"scale": scale_N} | ({} if bias_N is None else {"bias": bias_N}))
        q_MK, step_M1, low_M1 = quantize_rows(x_MK.detach())
        ctx.save_for_backward(q_MK, step_M1, low_M1, q_NK, scale_N)
        bias_N = None if bias_N is None else bias_N.detach()
        return linear_i8(x_MK.detach(), pack(q_NK, scale_N, bias_N, once=True))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (grad_MN,) = grads
        q_MK, step_M1, low_M1, q_NK, scale_N = ctx.saved_tensors
        for_x, for_w, for_bias = ctx.needs_input_grad
        return (
            grad_MN @ (q_NK.float() * scale_N.float()[:, None]) if for_x else None,
            grad_MN.t() @ torch.addcmul(low_M1, q_MK.float(), step_M1) if for_w else None,
            grad_MN.sum(dim=0) if for_bias else None,
        )


def fake_linear(x_MK: Tensor, w_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """y_MN as served from the float32 weight `w_NK`, with straight-through gradients for x, weight and bias."""
    return cast(Tensor, _FakeLinear.apply(x_MK, w_NK, bias_N))  # type: ignore[no-untyped-call]


def fake_layer(x_MK: Tensor, layer: nn.Linear) -> Tensor:
    """`fake_linear` of a layer of `Strata`, its inputs scaled as served."""
    if isinstance(layer, ScaledLinear):
        return fake_linear(x_MK * layer.in_scale, layer.weight / layer.in_scale, layer.bias)
    return fake_linear(x_MK, layer.weight, layer.bias)
