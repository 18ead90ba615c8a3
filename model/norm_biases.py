"""An encoder rewritten so that its activations are easier to round: the same function, with norms that add nothing.

    x = norm(..) + c  -->  x = norm(..), and c goes into whoever reads x (bias += W c) and into the sum that x joins

In a trained encoder, some channels are far from zero for every token. They set the range that the 8-bit rows of
`linear_i8` must cover. The bias of the norm before is most of that distance, and it is known without any data; on
MiniLM, moving it makes the rows' range 10 to 15 % smaller. The last norm keeps its bias: its output is what is pooled.

The new biases are summed in float64 and rounded to a grid that is coarse beside the sum's error, so that every machine
gets the same weights to the last bit.

What is left of the channels' differences is shared with the weights by scales (`model.calibration`). These are no part
of this: in a post-norm block the same activations are also added to the next sum, which would need them undone.
"""

import torch

from model.strata import Strata

_GRID = 2.0**16


@torch.no_grad()
def fold_norm_biases(strata: Strata) -> Strata:
    """Rewrites `strata` in place, and returns it."""
    before = "embed.norm"
    for layer in (f"layers.{index}" for index in range(strata.config.n_layers)):
        _move_bias(strata, before, f"{layer}.qkv", f"{layer}.out")
        _move_bias(strata, f"{layer}.norm1", f"{layer}.up", f"{layer}.down")
        before = f"{layer}.norm2"
    return strata


def _move_bias(strata: Strata, norm: str, reader: str, adder: str) -> None:
    """What `norm` adds goes into the biases of `reader`, which reads its output, and of `adder`, which adds to it."""
    shift_D = strata.get_parameter(f"{norm}.bias")
    weight_ND = strata.get_parameter(f"{reader}.weight")
    bias_N = strata.get_parameter(f"{reader}.bias")
    bias_N.copy_(torch.round((bias_N.double() + weight_ND.double() @ shift_D.double()) * _GRID) / _GRID)
    strata.get_parameter(f"{adder}.bias").add_(shift_D)
    shift_D.zero_()
