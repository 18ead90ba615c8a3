"""Seeded weights and rows for the tests of the INT8 layer."""

import torch
from torch import Tensor

from kernels.linear_i8.reference import Int8Weight


def weight(num_out: int, num_in: int, *, seed: int = 0) -> Int8Weight:
    generator = torch.Generator().manual_seed(seed)
    q_NK = torch.randint(-127, 128, (num_out, num_in), dtype=torch.int8, generator=generator)
    scale_N = torch.rand(num_out, generator=generator) * 0.01
    return Int8Weight.of(q_NK, scale_N, torch.randn(num_out, generator=generator))


def rows(num_rows: int, num_in: int, *, seed: int = 1) -> Tensor:
    return torch.randn(num_rows, num_in, generator=torch.Generator().manual_seed(seed)) * 3 + 1
