"""Defines a contender (a learner that is measured) and its budget: what it trains, stores and computes.

The accuracies of two contenders are comparable if their budgets are equal, so the table of results shows both.

Computation is counted by a hook, in the same way for our training loop and for Avalanche's:

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
    """The properties of a contender that do not depend on the data."""

    precision: str
    """The precision in which the contender's encoder and head answer: `int8`, `fp32` and so on."""
    encoder: EncoderUse = "none"
    """Whether the contender trains the pretrained encoder below its head. `none` means that it has no encoder."""
    uses_names: bool = False
    """Whether the contender learns the name of a class as a text of that class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """The current size of a contender's memory, and its computation for learning so far.

    The computation for predictions is not counted.
    """

    samples: int = 0
    """The number of samples in the contender's replay memory."""
    num_bytes: int = 0
    """The size of these samples in bytes."""
    gradients: int = 0
    """The number of sample gradients: the sum of the sizes of all batches with a backward pass."""
    forwards: int = 0
    """The number of samples that passed through the encoder, or the net, without a backward pass."""


class Contender(Protocol[X]):
    """A learner that is measured on a benchmark."""

    traits: Traits

    @property
    def usage(self) -> Usage:
        """The current size of the contender's memory, and its computation so far."""

    def learn_many(self, part: Part[X]) -> None:
        """Learns the items in order. The caller may call it several times, but each item comes only once."""

    def predict_many(self, inputs: X) -> Tensor:
        """Returns the predicted class ids, int64 [N]."""

    def do_idle_work(self) -> bool:
        """Does the work that a contender does in idle times. The caller calls it after the last item.

        Returns whether there was any work.
        """
        return False


@dataclass(slots=True)
class Passes:
    """The numbers of samples that have passed through a net, with and without a backward pass."""

    gradients: int = 0
    forwards: int = 0


@contextmanager
def counting_passes(net: nn.Module, passes: Passes) -> Iterator[None]:
    """Counts in `passes` the samples that pass through `net`, or through its copies, while the context is open."""

    # A function and not a method: copies of the net then share it, and with it the counts.
    def count(module: nn.Module, inputs: Any, outputs: Tensor) -> None:
        if torch.is_grad_enabled():
            passes.gradients += len(outputs)
        else:
            passes.forwards += len(outputs)

    handle = net.register_forward_hook(count)
    try:
        yield
    finally:
        handle.remove()
