"""Bias folding: moves the biases of the norms into the linear layers, so that activations are easier to quantize.

    x = norm(..) + c  -->  x = norm(..); the matrix that reads x gets bias += W c, and the residual sum gets c

The encoder computes the same function. In a trained encoder, some channels are far from zero for every token, and they
set the range that the 8-bit rows of `linear_i8` must cover. Most of that distance is the bias of the preceding norm,
which is known without any data: on MiniLM, folding it makes the rows' range 10 to 15 % smaller. The last norm keeps its
bias, because its output is pooled.

The new biases are summed in float64 and rounded to a grid that is coarse compared with the error of the sum, so that
every machine gets the same weights to the last bit.

The remaining differences between channels are shared with the weights by `in_scale` (`model.calibration`). Scales
cannot be folded into the norms as biases are: in a post-norm block the residual sum reads the same activations, and
there the scales would have to be undone.
"""

import torch

from model.linears import effective_weight, linear_at
from model.plan import plan_of
from model.strata import Strata

_GRID = 2.0**16
"""The new biases are multiples of 1 / _GRID."""


@torch.no_grad()
def fold_norm_biases(strata: Strata) -> Strata:
    """Rewrites `strata` in place, and returns it."""
    plan = plan_of(strata.config)
    preceding_norm = plan.embedding.norm
    for block in plan.blocks:
        _fold_bias(strata, preceding_norm, reader=block.qkv.path, adder=block.out.path)
        _fold_bias(strata, block.norm1, reader=block.up.path, adder=block.down.path)
        preceding_norm = block.norm2
    return strata


def _fold_bias(strata: Strata, norm: str, *, reader: str, adder: str) -> None:
    """Moves the bias of `norm` into `reader`, which reads the norm's output, and into `adder`, which adds to it."""
    shift_D = strata.get_parameter(f"{norm}.bias")
    weight_ND = effective_weight(linear_at(strata, reader))
    bias_N = strata.get_parameter(f"{reader}.bias")
    bias_N.copy_(torch.round((bias_N.double() + weight_ND.double() @ shift_D.double()) * _GRID) / _GRID)
    strata.get_parameter(f"{adder}.bias").add_(shift_D)
    shift_D.zero_()
