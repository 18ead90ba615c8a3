"""Defines a learner that is measured, and the means that it has: what it trains, stores and computes.

Two accuracies can be compared if these are equal, so the table of results shows them beside each other.

What it computes is counted by a hook, alike for our training loop and for Avalanche's:

    net --forward hook--> the size of each batch, by whether torch records it for a backward pass
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from evals.streams.benchmark import Part, X

EncoderUse: TypeAlias = Literal["trained", "frozen", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Traits:
    """What holds of a contender whatever it learns."""

    precision: str
    """The precision in which its encoder and head answer: `int8`, `fp32` and so on."""
    encoder: EncoderUse = "none"
    """Whether the pretrained encoder below its head is trained; `none` where there is no such encoder."""
    uses_names: bool = False
    """Whether it learns the name of a class as a text of that class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What a contender stores now, and what it has computed to learn. Predictions are not counted."""

    samples: int = 0
    """Number of samples in its replay memory."""
    num_bytes: int = 0
    """Bytes of these samples."""
    gradients: int = 0
    """Sample gradients: the sizes of all batches that had a backward pass, together."""
    forwards: int = 0
    """Samples that were encoded, or passed through a net that has no encoder, without a backward pass."""


class Contender(Protocol[X]):
    """A learner that is measured."""

    traits: Traits

    @property
    def usage(self) -> Usage:
        """What it stores and has computed so far."""

    def learn_many(self, part: Part[X]) -> None:
        """Learns the items in their order. Each is seen for the first and last time; more calls follow."""

    def predict_many(self, inputs: X) -> Tensor:
        """Returns the class ids, int64 [N], as predicted after what was learnt so far."""

    def idle(self) -> bool:
        """Does what it does while no label comes, after the last item. Returns False where that is nothing."""
        return False


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
