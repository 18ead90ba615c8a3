"""Seeded weights and rows for the tests of the INT4 layer."""

import torch
from torch import Tensor

from kernels.linear_i4.reference import GROUP, Int4Weight


def weight(num_out: int, num_groups: int, *, seed: int = 0) -> Int4Weight:
    generator = torch.Generator().manual_seed(seed)
    hi_NJ = torch.randint(0, 256, (num_out, num_groups * GROUP // 2), dtype=torch.uint8, generator=generator)
    m_NG = torch.randint(1, 17, (num_out, num_groups), dtype=torch.uint8, generator=generator)
    scale_N = torch.rand(num_out, generator=generator) * 0.01
    return Int4Weight(hi_NJ, m_NG, scale_N, torch.randn(num_out, generator=generator))


def rows(num_rows: int, num_in: int, *, seed: int = 1) -> Tensor:
    return torch.randn(num_rows, num_in, generator=torch.Generator().manual_seed(seed)) * 3 + 1
