"""Defines a learner that is measured, and the means that it has: what it trains, stores and computes.

Two accuracies can be compared where these are equal, so the table of results shows them beside each other.
"""

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from torch import Tensor

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
