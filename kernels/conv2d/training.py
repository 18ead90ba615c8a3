"""A 3 x 3 convolution that is trained: `torch.nn.Conv2d` whose forward and gradient of the input are `conv2d`.

    x_BCHW --conv2d(w)--> y_BOHW        grad of y --conv2d(adjoint of w)--> grad of x
                                        grad of y, x --torch--> grad of w and of the bias

The filters change at every step, so each call packs them, which takes 1 % of the time of 32 images of 64 channels.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from kernels import native
from kernels.conv2d import conv2d, pack
from kernels.conv2d.reference import TAPS


class Conv3x3(nn.Conv2d):
    """The layer `nn.Conv2d(num_in, num_out, 3, padding=1)`, with the same parameters and state.

    Float32 images on the CPU are convolved by the implementation that is the fastest on this machine. Everything else,
    and every image on a machine without the native kernels, is convolved by torch. Images in torch's channels_last are
    not copied.
    """

    def __init__(self, num_in: int, num_out: int, *, bias: bool = True) -> None:
        super().__init__(num_in, num_out, TAPS, padding=1, bias=bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Returns y_BOHW. Raises ValueError or RuntimeError for another number of dimensions or channels."""
        is_ours = x_BCHW.dtype == self.weight.dtype == torch.float32 and x_BCHW.is_cpu and self.weight.is_cpu
        if not is_ours or not len(x_BCHW) or native.why_unavailable():
            return functional.conv2d(x_BCHW, self.weight, self.bias, padding=1)
        y_BOHW: Tensor = _Convolution.apply(x_BCHW, self.weight, self.bias)
        return y_BOHW


class _Convolution(torch.autograd.Function):
    """The convolution with its gradients."""

    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, w_OC33: Tensor, bias_O: Tensor | None) -> Tensor:
        ctx.save_for_backward(x_BCHW, w_OC33)
        return conv2d(x_BCHW, pack(w_OC33, bias_O, size=_size(x_BCHW)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BOHW: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x_BCHW, w_OC33 = ctx.saved_tensors
        needs_x, needs_w, needs_bias = ctx.needs_input_grad
        grad_x = conv2d(grad_BOHW, pack(w_OC33, size=_size(grad_BOHW), adjoint=True)) if needs_x else None
        grad_w = None
        if needs_w:
            grad_w = conv2d_weight(x_BCHW, w_OC33.shape, grad_BOHW, padding=1)  # type: ignore[no-untyped-call]
        # Together with the gradient of w, torch takes up to 40 % longer for both.
        grad_bias = grad_BOHW.sum((0, 2, 3)) if needs_bias else None
        return grad_x, grad_w, grad_bias


def _size(x_BCHW: Tensor) -> tuple[int, int]:
    if x_BCHW.dim() != 4:
        raise ValueError(f"images have the shape {tuple(x_BCHW.shape)}; expected [B, C, H, W]")
    height, width = x_BCHW.shape[2:]
    return height, width
