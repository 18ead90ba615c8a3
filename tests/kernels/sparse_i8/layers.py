"""Seeded sparse weights for the tests of the sparse INT8 layer."""

import torch

from kernels.sparse_i8.reference import GROUP_OUT, QUAD, SparseWeight


def weight(num_groups: int, num_quads: int, *, density: float, seed: int = 0) -> SparseWeight:
    """Makes a weight of 16 * num_groups outputs and 4 * num_quads inputs."""
    generator = torch.Generator().manual_seed(seed)
    mask_GQ = torch.rand(num_groups, num_quads, generator=generator) < density
    shape = (int(mask_GQ.sum()), GROUP_OUT, QUAD)
    blocks_BNQ = torch.randint(-127, 128, shape, dtype=torch.int8, generator=generator)
    num_out = GROUP_OUT * num_groups
    scale_N = torch.rand(num_out, generator=generator) * 0.01
    return SparseWeight(mask_GQ, blocks_BNQ, scale_N, torch.randn(num_out, generator=generator))
