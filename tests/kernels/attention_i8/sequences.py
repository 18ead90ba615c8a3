"""Seeded sequences, and spans, for the tests of attention in 8-bit integers."""

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

HEADS = 3


HEAD = 16


WIDTH = 3 * HEADS * HEAD


@dataclass(frozen=True)
class Keys:
    """A span: see `model.config.Span`."""

    kind: str
    window: int = 0
    sinks: int = 0
    block: int = 64
    topk: int = 0
    dense_below: int = 0


def rows(lengths: list[int], *, seed: int = 0, width: int = WIDTH) -> tuple[Tensor, list[int]]:
    """Returns rows whose channels differ in mean and deviation, as in a trained model, and the offsets of sequences."""
    generator = torch.Generator().manual_seed(seed)
    offsets = [0, *accumulate(lengths)]
    mean_W = torch.randn(width, generator=generator)
    deviation_W = torch.rand(width, generator=generator) * 2
    return torch.randn(offsets[-1], width, generator=generator) * deviation_W + mean_W, offsets
