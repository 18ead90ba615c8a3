"""Block-sparse weights: the mask of the blocks that are stored, as bits, and the conversion from and to dense integers.

    q_NK, mask_GQ --split_blocks--> blocks_BNQ, mask_GJ --join_blocks--> q_NK

A weight of the scheme `bcsr16x4.w8` is INT8, in blocks of 16 outputs by four inputs (`kernels.sparse_i8`). Its blocks
are stored in the order of the mask: by group of outputs, then by quad of inputs. One bit for each block takes less
than the index of 16 bits that the kernel reads, as long as more than a sixteenth of the blocks is stored, and cannot
name a block twice or out of range.

The mask is a part of the grid of a matrix (`model.grid`). So slow rounds of training leave it as it is, and a version
ships only values. A new mask needs `lifelong model prune --sparse` and `adopt`.

Shape suffixes: N outputs, K inputs, B stored blocks, G = N / 16 groups of outputs, Q = K / 4 quads of inputs,
J = K / 32 bytes.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from kernels.sparse_i8.reference import GROUP_OUT, QUAD, SparseWeight, cut, dense

BCSR = "bcsr16x4.w8"

MAX_SPARSE = 127
"""The largest magnitude of an integer."""

INPUTS_PER_BYTE = 8 * QUAD
"""The inputs for which a byte of the mask holds a bit for each quad; K is a multiple of it."""

_BIT_8 = 1 << torch.arange(8)
"""The value of each bit; the first quad is the lowest bit."""


def pack_mask(mask_GQ: Tensor) -> Tensor:
    """Packs a mask, bool [G, Q], into bits, uint8 [G, Q / 8]. Q is a multiple of 8."""
    bits_GJ8 = mask_GQ.view(len(mask_GQ), -1, 8).long()
    return (bits_GJ8 * _BIT_8).sum(dim=2).to(torch.uint8)


def unpack_mask(mask_GJ: Tensor) -> Tensor:
    """Returns the mask as bool [G, Q]: the inverse of `pack_mask`."""
    return (mask_GJ.long().unsqueeze(2) & _BIT_8).bool().flatten(1)


def split_blocks(q_NK: Tensor, mask_GJ: Tensor) -> Tensor:
    """Returns blocks_BNQ int8 [B, 16, 4]: the blocks of q_NK that the mask stores."""
    return cut(q_NK)[unpack_mask(mask_GJ)]


def join_blocks(blocks_BNQ: Tensor, mask_GJ: Tensor) -> Tensor:
    """Returns q_NK int8, which is 0 where no block is stored."""
    return dense(blocks_BNQ, unpack_mask(mask_GJ))


def sparse_weight(parts: Mapping[str, Tensor]) -> SparseWeight:
    """Returns the weight of the kernels from the parts of a stored weight."""
    return SparseWeight(unpack_mask(parts["mask"]), parts["blocks"], parts["scale"], parts.get("bias"))


def sparse_shape(mask_shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns N and K of a weight from the shape of its mask."""
    num_groups, num_bytes = mask_shape
    return num_groups * GROUP_OUT, num_bytes * INPUTS_PER_BYTE


def fit_sparse(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether the shapes of the parts of a sparse weight fit together."""
    if len(shapes["mask"]) != 2 or shapes["blocks"][1:] != (GROUP_OUT, QUAD):
        return False
    num_out, num_in = sparse_shape(shapes["mask"])
    expected = {name: (num_out,) for name in shapes} | {"in_scale": (num_in,)}
    return all(shape == expected[name] for name, shape in shapes.items() if name not in ("mask", "blocks"))
