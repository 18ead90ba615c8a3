"""Seeded images and filters for the tests of the convolution, and sizes with a remainder in every direction."""

import torch
from torch import Tensor

from kernels.linear_i8.reference import Int8Weight

SHAPES = (
    (1, 1, 1, 1, 1),
    (2, 5, 6, 7, 9),
    (1, 3, 33, 5, 6),
    (3, 16, 32, 13, 1),
    (1, 64, 70, 14, 14),
    (2, 33, 16, 2, 11),
)
"""B, C, O, H, W."""


def images(num_images: int, num_in: int, height: int, width: int, *, seed: int = 0) -> Tensor:
    """Returns x_BCHW with values of both signs, whose mean is not 0."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_images, num_in, height, width, generator=generator) * 2 + 0.5


def filters(num_out: int, num_in: int, *, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Returns w_OC33 and bias_O."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_out, num_in, 3, 3, generator=generator), torch.randn(num_out, generator=generator)


def integer_filters(num_out: int, num_in: int, *, seed: int = 1) -> tuple[Tensor, Int8Weight]:
    """Returns q_OC33, and its rows with random scales and biases."""
    generator = torch.Generator().manual_seed(seed)
    q_OC33 = torch.randint(-127, 128, (num_out, num_in, 3, 3), dtype=torch.int8, generator=generator)
    scale_O = torch.rand(num_out, generator=generator) * 0.01
    return q_OC33, Int8Weight.of(q_OC33.flatten(1), scale_O, torch.randn(num_out, generator=generator))


def extreme_images(num_in: int) -> tuple[Tensor, Tensor]:
    """Returns q_BCIJ, whose transformed tiles have the largest magnitudes, and q_OC33 with the largest sums."""
    q_BCIJ = torch.full((2, num_in, 6, 6), 255, dtype=torch.uint8)
    q_BCIJ[1, :, 2:4] = 0
    q_OC33 = torch.full((3, num_in, 3, 3), 127, dtype=torch.int8)
    q_OC33[1] = -127
    q_OC33[2, :, 1] = -127
    return q_BCIJ, q_OC33
