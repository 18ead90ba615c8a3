"""The forward pass of the quantized encoder: one interface, a native implementation and one in torch.

    forward_of(config, tensors, precision) -> Forward        native if it can run here, otherwise torch's operations

`native` calls our C, `library` runs torch's operations, and `stored` converts the float parts of stored weights for
both. They compute the same chain of operations. Their vectors differ by float32 rounding, which the next 8-bit rounding
may enlarge to one quantization step. An answer of either depends on its text and the weights alone.
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
    """An encoder with the weights of one precision, ready to run."""

    def encode(self, batch: RaggedBatch) -> Tensor:
        """Returns z_BD of unit length, in the caller's order. Raises BadTokens."""

    def tokens(self, batch: RaggedBatch, layers: int) -> Tensor:
        """Returns x_TD after the first `layers` blocks, in the layout's order. Raises BadTokens."""


def forward_of(config: StrataConfig, tensors: Mapping[str, QTensor], precision: str) -> Forward:
    """Packs the weights. Raises NotImplementedError if LIFELONG_KERNELS asks for `native` and it cannot run."""
    if forced() not in (None, "native"):
        return library.LibraryForward(config, tensors, precision)
    reasons = native.why_not(config)
    if not reasons:
        return native.NativeForward(config, tensors, precision)
    if forced() == "native":
        raise NotImplementedError(f"{VARIABLE}=native cannot run this model here: {'; '.join(reasons)}")
    return library.LibraryForward(config, tensors, precision)
