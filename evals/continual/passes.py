"""Counts the samples that pass through a net while it learns, with a gradient and without.

net --forward hook--> the size of each batch, by whether torch records it for a backward pass

The hook counts alike for our training loop and for Avalanche's. Rejected: counting in the loops, since strategies make
passes of their own (the Fisher information of EWC, the reference gradient of A-GEM, the teacher of LwF).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(slots=True)
class Passes:
    """The samples that have passed so far."""

    gradients: int = 0
    forwards: int = 0


@contextmanager
def counting(net: nn.Module, passes: Passes) -> Iterator[None]:
    """Counts the samples that pass through `net`, or a copy that is made meanwhile, inside the `with` block."""

    def count(module: nn.Module, inputs: Any, outputs: Tensor) -> None:  # a copy of the net shares a function
        if torch.is_grad_enabled():
            passes.gradients += len(outputs)
        else:
            passes.forwards += len(outputs)

    handle = net.register_forward_hook(count)
    try:
        yield
    finally:
        handle.remove()
