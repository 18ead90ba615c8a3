"""Counts the samples that pass through a net while it learns, with a gradient and without.

net --forward hook--> the size of each batch, by whether torch records it for a backward pass

The hook counts alike for our training loop and for Avalanche's. Rejected: counting in the loops, since strategies make
passes of their own (the Fisher information of EWC, the reference gradient of A-GEM, the teacher of LwF).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class PassCounter:
    """Counts while `counting` is entered, and in copies of the net that are made meanwhile."""

    def __init__(self) -> None:
        self.gradients = 0
        self.forwards = 0

    @contextmanager
    def counting(self, net: nn.Module) -> Iterator[None]:
        """Counts the samples that pass through `net` inside the `with` block."""

        def count(module: nn.Module, inputs: Any, outputs: Tensor) -> None:  # a copy of the net shares a function
            if torch.is_grad_enabled():
                self.gradients += len(outputs)
            else:
                self.forwards += len(outputs)

        handle = net.register_forward_hook(count)
        try:
            yield
        finally:
            handle.remove()
