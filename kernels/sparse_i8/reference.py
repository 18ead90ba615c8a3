"""The definition of the sparse INT8 linear layer in plain torch: the INT8 layer on a matrix in which most blocks are 0.

A matrix is cut into blocks of 16 outputs by four inputs. The mask says which blocks are stored, and the others are 0.
So the quantization of x and the order of the float operations are the same as in `linear_i8`:

    blocks_BNQ, mask_GQ --dense--> q_NK --linear_i8's reference--> y_MN

A block is the operand of one multiply-add instruction of AVX512-VNNI, so one index serves 64 weights. Blocks of one
output by four inputs (Shen et al., arXiv 2306.16601) need an index for every four.

Shape suffixes: M tokens, K inputs, N outputs, B stored blocks, G = N / 16 groups of outputs, Q = K / 4 quads of inputs.
"""

from dataclasses import dataclass

from torch import Tensor

from kernels.linear_i8 import reference as linear_i8

GROUP_OUT = 16
"""The outputs of a block."""

QUAD = 4
"""The inputs of a block."""


@dataclass(frozen=True, slots=True)
class SparseWeight:
    """A weight of blocks_BNQ, int8 [B, 16, 4], where mask_GQ, bool, is True, in its order, and of 0 elsewhere.

    scale_N and bias_N are as in `Int8Weight`; None is a bias of 0.
    """

    mask_GQ: Tensor
    blocks_BNQ: Tensor
    scale_N: Tensor
    bias_N: Tensor | None

    @property
    def num_out(self) -> int:
        return len(self.mask_GQ) * GROUP_OUT

    @property
    def num_in(self) -> int:
        return self.mask_GQ.shape[1] * QUAD

    @property
    def density(self) -> float:
        """The share of the blocks that are stored, from 0 to 1."""
        return len(self.blocks_BNQ) / self.mask_GQ.numel()

    def as_int8(self) -> linear_i8.Int8Weight:
        """Returns the same weight as an INT8 weight, with the zeros."""
        return linear_i8.Int8Weight.of(dense(self.blocks_BNQ, self.mask_GQ), self.scale_N, self.bias_N)


def cut(q_NK: Tensor) -> Tensor:
    """Returns the blocks of a matrix as [G, Q, 16, 4]. N is a multiple of 16, and K of 4."""
    num_out, num_in = q_NK.shape
    return q_NK.reshape(num_out // GROUP_OUT, GROUP_OUT, num_in // QUAD, QUAD).transpose(1, 2)


def whole(blocks_GQNQ: Tensor) -> Tensor:
    """Returns the matrix [N, K] of its blocks [G, Q, 16, 4]: the inverse of `cut`."""
    return blocks_GQNQ.transpose(1, 2).flatten(2).flatten(0, 1)


def dense(blocks_BNQ: Tensor, mask_GQ: Tensor) -> Tensor:
    """Returns q_NK: the stored blocks in their places, and 0 elsewhere."""
    blocks_GQNQ = blocks_BNQ.new_zeros(*mask_GQ.shape, GROUP_OUT, QUAD)
    blocks_GQNQ[mask_GQ] = blocks_BNQ
    return whole(blocks_GQNQ)


def expand(mask_GQ: Tensor) -> Tensor:
    """Returns the mask of single weights, [N, K]."""
    return mask_GQ.repeat_interleave(GROUP_OUT, dim=0).repeat_interleave(QUAD, dim=1)


def linear(x_MK: Tensor, weight: SparseWeight) -> Tensor:
    """Returns y_MN float32 for float32 rows x_MK: the definition of the operation."""
    return linear_i8.linear(x_MK, weight.as_int8())
