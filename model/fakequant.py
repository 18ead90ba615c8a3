"""Quantization-aware training (fake quantization): in training, the forward pass rounds like the served kernels.

The forward pass of `fake_linear` calls `linear_i8` with the integers that would be published. So training and serving
cannot diverge. (The INT4 kernels give the same bits as the INT8 kernels on the same integers.) The backward pass is a
straight-through estimator (Bengio et al., arXiv 1308.3432), in the scheme of Jacob et al. (arXiv 1712.05877): each
product is differentiated at the quantized values, and the gradient of rounding is the identity. If a weight has a grid,
its scales are learnt, too, and values beyond the range have no gradient (LSQ, `model.grid`).

Shape suffixes: M tokens, K inputs, N outputs.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from kernels.linear_i8 import linear_i8, pack
from kernels.linear_i8.reference import quantize_rows
from model.grid import Grid, find_grid, lsq_gradient, round_to
from model.linears import ScaledLinear, is_nested
from model.nested import MAX_Q8
from model.qtensor import check_finite
from model.quantize import MAX_W8C, round_rows

Gradients: TypeAlias = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, None]


class _FakeLinear(torch.autograd.Function):
    """The implementation of `fake_linear` with its gradients.

    `shift_N` is part of the grid, and also a separate argument, so that autograd tracks it.
    """

    @staticmethod
    def forward(
        ctx: Any, x_MK: Tensor, w_NK: Tensor, bias_N: Tensor | None, shift_N: Tensor | None, values: Grid | int
    ) -> Tensor:
        if isinstance(values, Grid):
            q_NK = round_to(values, w_NK)
            scale_N = values.scale_N
        else:
            q_NK, scale_N = round_rows(w_NK, values)
        parts = {"scale": scale_N, "sum": w_NK.detach().sum()}
        if bias_N is not None:
            bias_N = bias_N.detach()
            parts["bias"] = bias_N
        check_finite("weight", parts)
        q_MK, scale_M1, min_M1 = quantize_rows(x_MK.detach())
        ctx.save_for_backward(q_MK, scale_M1, min_M1, w_NK, q_NK, scale_N)
        ctx.values = values
        return linear_i8(x_MK.detach(), pack(q_NK, scale_N, bias_N, once=True))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Gradients:
        (grad_MN,) = grads
        q_MK, scale_M1, min_M1, w_NK, q_NK, scale_N = ctx.saved_tensors
        needs_x, needs_w, needs_bias, needs_shift, _ = ctx.needs_input_grad
        grad_MK = grad_MN @ (q_NK.float() * scale_N.float()[:, None]) if needs_x else None
        grad_N = grad_MN.sum(dim=0) if needs_bias else None
        if not needs_w and not needs_shift:
            return grad_MK, None, grad_N, None, None
        grad_NK = grad_MN.t() @ torch.addcmul(min_M1, q_MK.float(), scale_M1)
        if not isinstance(ctx.values, Grid):
            return grad_MK, grad_NK, grad_N, None, None
        grad_NK, grad_shift_N = lsq_gradient(ctx.values, w_NK, q_NK, grad_NK)
        return grad_MK, grad_NK, grad_N, grad_shift_N, None


def fake_linear(x_MK: Tensor, w_NK: Tensor, bias_N: Tensor | None = None, values: Grid | int = MAX_Q8) -> Tensor:
    """Computes y_MN of a linear layer as if it were served, with straight-through gradients for x, weight and bias.

    `w_NK` is the float32 weight. `values` says to which values the weight is rounded. It is a grid, whose `shift_N`
    gets a gradient, too, or the largest integer, to which the largest magnitude of each row is scaled. Raises
    NonFinite.
    """
    shift_N = values.shift_N if isinstance(values, Grid) else None
    # Some releases of torch have no types for `apply`.
    apply: Callable[..., Tensor] = _FakeLinear.apply
    return apply(x_MK, w_NK, bias_N, shift_N, values)


def fake_layer(x_MK: Tensor, layer: nn.Linear) -> Tensor:
    """Computes y_MN of a layer of `Strata` by `fake_linear`. Inputs are scaled as in the served layer."""
    values = find_grid(layer) or (MAX_Q8 if is_nested(layer) else MAX_W8C)
    if isinstance(layer, ScaledLinear):
        return fake_linear(x_MK * layer.in_scale, layer.weight / layer.in_scale, layer.bias, values)
    return fake_linear(x_MK, layer.weight, layer.bias, values)
