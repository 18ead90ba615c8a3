"""The forward pass of the quantized encoder: one interface with a native implementation and one in torch.

    pack_forward(config, tensors, precision) -> Forward        native if it can run here, otherwise torch's operations
    batch --tokens--> x_TD above the blocks that several encoders share --encode_from of each encoder--> its z_BD

`native` calls our C, and `library` runs torch's operations. `stored` converts the float parts of stored weights for
both. Both compute the same chain of operations. Their vectors differ by float32 rounding, which the next 8-bit rounding
can enlarge to one quantization step. With either of them, a vector depends only on its text and the weights.

Shape suffixes: T tokens of all texts, B texts, D width.
"""

import functools
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol, TypeAlias

from torch import Tensor

from kernels.attention_i8 import attention as attention_i8
from kernels.dispatch import VARIABLE, Impl, choose, forced
from kernels.native import why_unavailable as missing
from model.config import StrataConfig
from model.forward import library, native
from model.qtensor import QTensor
from model.ragged import RaggedBatch, RaggedLayout

log = logging.getLogger(__name__)


class Forward(Protocol):
    """An encoder with the packed weights of one precision, ready to run.

    `name` is the name of the implementation. `arithmetic` identifies how it rounds: two forwards with the same name and
    arithmetic give the same bits. It is "" if torch's libraries decide the rounding.
    """

    @property
    def name(self) -> str: ...

    @property
    def arithmetic(self) -> str: ...

    def encode(self, batch: RaggedBatch) -> Tensor:
        """Encodes texts; returns z_BD in the caller's order, of unit length if the config says so. Raises BadTokens."""

    def tokens(self, batch: RaggedBatch, layers: int) -> Tensor:
        """Runs the first `layers` blocks; returns the activations x_TD in the layout's order. Raises BadTokens."""

    def tokens_from(self, x_TD: Tensor, layout: RaggedLayout, layers: int) -> Tensor:
        """Returns x_TD after the first `layers` blocks, in the layout's order, from x_TD at the input of block 0."""

    def encode_from(self, layer: int, x_TD: Tensor, layout: RaggedLayout) -> Tensor:
        """Runs the blocks from `layer` on, from the activations x_TD below them. Returns the same bits as `encode`.

        x_TD may come from another forward that has the same embedding and the same blocks below `layer`. It may contain
        only some of the texts of its batch. It is not changed.
        """


PackForward: TypeAlias = Callable[[StrataConfig, Mapping[str, QTensor], str], Forward]

IMPLS: tuple[Impl[PackForward], ...] = (
    Impl("native", native.why_unavailable, native.NativeForward),
    Impl("library", lambda _: [], library.LibraryForward),
    Impl("reference", lambda _: [], partial(library.LibraryForward, attention=attention_i8)),
)


def pack_forward(
    config: StrataConfig, tensors: Mapping[str, QTensor], precision: str, *, force: str | None = None
) -> Forward:
    """Packs the weights for the first implementation that can run here, or for the implementation `force`.

    Without `force`, LIFELONG_KERNELS may name the implementation. Raises NotImplementedError if it cannot run a model
    of this shape here. Logs a warning if our kernels can run here, but cannot run a model of this shape.
    """
    chosen = _chosen(config, force)
    if force is None and forced() is None and chosen.name != "native" and not missing():
        _warn("; ".join(native.why_unavailable(config)), chosen.name)
    return chosen.run(config, tensors, precision)


def implementation_name(config: StrataConfig) -> str:
    """Returns the name of the implementation that runs models of this shape here. Raises like `pack_forward`."""
    return _chosen(config, None).name


@functools.cache
def _warn(reason: str, name: str) -> None:
    """Logs why an encoder cannot use the native kernels, once for each reason."""
    log.warning(
        "no native kernels for this encoder: %s. Answers come from torch's operations, which take longer; %s=%s "
        "silences this",
        reason,
        VARIABLE,
        name,
    )


def _chosen(config: StrataConfig, force: str | None) -> Impl[PackForward]:
    return choose("forward", IMPLS, config, force=force or forced())
