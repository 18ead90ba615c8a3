"""Gradual pruning: blocks of the feed-forward matrices become zero during a distillation from the dense encoder.

    step --distillation--> weights --importance--> mask of every matrix --weights outside of it are 0--> next step
    the last masks --attach_sparse_grids--> Strata on grids --encoder_tensors--> bcsr16x4.w8

The share of blocks that are zero rises from 0 to its goal over the first part of the training, fast at first and then
slower (Zhu & Gupta, arXiv 1710.01878, equation 1, with s_i = 0 and t_0 = 0):

    s_t = s_f * (1 - (1 - t / n)^3)

Then the masks stay, and the other weights recover. A block's importance is the effect of its weights on the outputs:
the sum of w^2 E[x^2], in which x are the inputs of the dense encoder on the calibration texts (Sun et al., arXiv
2306.11695, equation 1, for blocks). Every matrix gets the same share, so that all layers become equally fast.

A block of 16 outputs by four inputs is what the kernel multiplies at a time (`kernels.sparse_i8`).

Shape suffixes: N outputs, K inputs, G = N / 16 groups of outputs, Q = K / 4 quads of inputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from kernels.sparse_i8.reference import GROUP_OUT, cut, expand
from lifelong.compress.distillation import Distiller, DistillOptions, Losses
from model.errors import WrongConfig
from model.grid import Grid
from model.linears import ScaledLinear, linear_at
from model.plan import build_plan
from model.quantize import round_rows
from model.sparse import BCSR, INPUTS_PER_BYTE, MAX_SPARSE, pack_mask
from model.strata import Strata

RAMP = 0.6
"""The part of the steps in which the share rises."""

EVERY = 10
"""The steps between two choices of the masks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sparsity:
    """The share of the blocks of each matrix that become zero, and the second moments E[x^2] [K] of its inputs."""

    share: float
    moments: Mapping[str, Tensor]


def feed_forward_matrices(strata: Strata) -> list[str]:
    """Returns the names of the feed-forward matrices. Raises WrongConfig if one cannot be cut into blocks."""
    banks = [matrix for matrix in build_plan(strata.config).banks if matrix.name.endswith((".up", ".down"))]
    for matrix in banks:
        if matrix.rows % GROUP_OUT or matrix.columns % INPUTS_PER_BYTE:
            raise WrongConfig(
                f"{matrix.name} is {matrix.rows} x {matrix.columns}; expected multiples of {GROUP_OUT} and"
                f" {INPUTS_PER_BYTE}"
            )
    return [matrix.name for matrix in banks]


def share_at(step: int, num_steps: int, share: float) -> float:
    """Returns the share of blocks that are zero after a step.

    >>> [round(share_at(step, 100, 0.8), 3) for step in (0, 15, 30, 60, 100)]
    [0.0, 0.463, 0.7, 0.8, 0.8]
    """
    progress = min(step / (RAMP * num_steps), 1.0)
    return share * (1 - (1 - progress) ** 3)


def most_important(w_NK: Tensor, moments_K: Tensor, share: float) -> Tensor:
    """Returns mask_GQ, bool: all blocks but the least important ones, whose number is `share` of all. One block stays.

    A block of which all weights are 0 is less important than any other.
    """
    importance_GQ = cut(w_NK.square() * moments_K).sum(dim=(2, 3))
    num_zero = min(round(share * importance_GQ.numel()), importance_GQ.numel() - 1)
    order = importance_GQ.flatten().argsort(stable=True)
    mask_GQ = torch.ones_like(importance_GQ, dtype=torch.bool)
    mask_GQ.view(-1)[order[:num_zero]] = False
    return mask_GQ


class SparseDistiller(Distiller):
    """A distillation in which blocks of the student become zero. The arguments and errors are those of `Distiller`.

    `masks` has the mask_GQ of every feed-forward matrix by name.
    """

    def __init__(
        self,
        student: Strata,
        teacher: Strata,
        token_ids: Sequence[list[int]],
        options: DistillOptions,
        sparsity: Sparsity,
    ) -> None:
        super().__init__(student, teacher, token_ids, options)
        self._sparsity = sparsity
        self.masks: dict[str, Tensor] = {}
        for name in feed_forward_matrices(student):
            weight = linear_at(student, name).weight
            self.masks[name] = most_important(weight.detach(), sparsity.moments[name], 0.0)
            # A weight that is 0 must not take its part of the norm to which gradients are clipped.
            weight.register_hook(partial(self._within_mask, name))  # type: ignore[no-untyped-call]

    @property
    def share(self) -> float:
        """The share of the blocks of each matrix that are zero after the steps so far."""
        last = self.num_done if self.is_done else self.num_done - self.num_done % EVERY
        return share_at(last, self.num_steps, self._sparsity.share)

    def step(self) -> Losses:
        losses = super().step()
        for name in self.masks:
            weight = linear_at(self.student, name).weight.data
            if self.num_done % EVERY == 0 or self.is_done:
                self.masks[name] = most_important(weight, self._sparsity.moments[name], self.share)
            weight.mul_(expand(self.masks[name]))
        return losses

    def tensors(self) -> dict[str, Tensor]:
        return super().tensors() | {f"mask.{name}": mask_GQ for name, mask_GQ in self.masks.items()}

    def restore(self, tensors: Mapping[str, Tensor], num_done: int) -> None:
        super().restore(tensors, num_done)
        self.masks = {name: tensors[f"mask.{name}"] for name in self.masks}

    def _within_mask(self, name: str, grad_NK: Tensor) -> Tensor:
        return grad_NK * expand(self.masks[name])


@torch.no_grad()
def attach_sparse_grids(strata: Strata, masks: Mapping[str, Tensor]) -> None:
    """Gives each matrix in `masks` a sparse grid, so that it is stored sparse. Weights outside of a mask become 0."""
    for name, mask_GQ in masks.items():
        layer = linear_at(strata, name)
        layer.weight.mul_(expand(mask_GQ))
        w_NK = layer.weight / layer.in_scale if isinstance(layer, ScaledLinear) else layer.weight
        _, scale_N = round_rows(w_NK, MAX_SPARSE)
        layer.grid = Grid(BCSR, scale_N, pack_mask(mask_GQ))
