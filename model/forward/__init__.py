"""How a batch gets through the encoder: one interface, a native way and one of torch's operations.

    forward_of(config, weights, precision) -> Forward        native where it can run, torch's operations where it cannot

Both follow the same chain; their vectors differ by what float32 rounds, which the next 8-bit rounding may turn into a
step of its grid. An answer of either depends on its text and the weights alone.
"""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from kernels.dispatch import VARIABLE, forced
from model.config import StrataConfig
from model.forward import library, native
from model.qtensor import QTensor
from model.ragged import RaggedBatch


class Forward(Protocol):
    """Weights of one precision, ready to run."""

    def encode(self, batch: RaggedBatch) -> Tensor:
        """z_BD of unit length, in the caller's order. Raises BadTokens."""

    def tokens(self, batch: RaggedBatch, layers: int) -> Tensor:
        """x_TD behind the first `layers` blocks, in the layout's order. Raises BadTokens."""


def forward_of(config: StrataConfig, tensors: Mapping[str, QTensor], precision: str) -> Forward:
    """Packs the weights. Raises NotImplementedError where the native way is asked for by name and cannot run."""
    if forced() not in (None, "native"):
        return library.LibraryForward(config, tensors, precision)
    reasons = native.why_not(config)
    if not reasons:
        return native.NativeForward(config, tensors, precision)
    if forced() == "native":
        raise NotImplementedError(f"{VARIABLE}=native cannot run this model here: {'; '.join(reasons)}")
    return library.LibraryForward(config, tensors, precision)
