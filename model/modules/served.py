"""The module of a user as it is served: in float32 by torch, or its linear layers in INT8 by torchao.

    batch --inputs in the caller's order--> module --unit length--> z_BD

Torch's libraries round by the size of a batch, so vectors have no name (`PackedEncoder.encoding`): the learner, which
takes sums apart again, encodes one input at a time.

Shape suffixes: B inputs, D width.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.errors import WrongConfig
from model.features import FeatureMap
from model.modules.config import FP32, INT8, ModuleConfig
from model.modules.encoder import EncoderCode, check_vectors
from model.modules.whole import load_module
from model.packed import PackedEncoder
from model.qtensor import QTensor
from model.ragged import RaggedBatch


class ModuleEncoder:
    """A `PackedEncoder` that is a module of the user. Immutable; threads may share it."""

    def __init__(
        self, config: ModuleConfig, modules: Mapping[str, nn.Module], features: FeatureMap | None = None
    ) -> None:
        self.config = config
        self.features = features or FeatureMap(config.d_model, {})
        self._modules = modules
        self.precisions = tuple(modules)
        """Those in which inputs can be encoded, the most accurate first."""

    @classmethod
    def from_tensors(cls, config: ModuleConfig, tensors: Mapping[str, QTensor], code: EncoderCode) -> "ModuleEncoder":
        """Returns the module of `code` with stored weights. Raises WrongShape, and WrongConfig without torchao."""
        modules = {FP32: load_module(code, tensors)}
        if config.int8:
            modules[INT8] = _in_int8(config, modules[FP32])
        return cls(config, modules, FeatureMap.from_tensors(config.d_model, tensors))

    def encode(self, batch: RaggedBatch, precision: str | None = None) -> Tensor:
        """Returns z_BD of unit length, in the caller's order. Raises ValueError for a precision that there is not."""
        return functional.normalize(self.vectors(batch, precision), dim=1)

    @torch.no_grad()
    def vectors(self, batch: RaggedBatch, precision: str | None = None) -> Tensor:
        """Returns z_BD as the module makes them. Raises as `encode`."""
        name = self.precisions[0] if precision is None else precision
        if name not in self._modules:
            raise ValueError(f"precision is {name!r}; expected one of {', '.join(self.precisions)}")
        inputs = batch.layout.split(batch.ids_T)
        return check_vectors(self.config.path, self._modules[name](inputs), len(inputs), self.config.d_model)

    def encoding(self, digests: Mapping[str, str], max_tokens: int) -> str:
        """Returns "": another process may compute otherwise."""
        return ""

    @property
    def implementation(self) -> str:
        return "torch"

    def has_shape_of(self, other: PackedEncoder) -> bool:
        """Whether both are of the same class, from the same source."""
        return self.config.without_labels == other.config.without_labels


def _in_int8(config: ModuleConfig, module: nn.Module) -> nn.Module:
    """Returns a copy whose linear layers compute in INT8: weights by output channel, activations by row."""
    try:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
    except ImportError as error:
        raise WrongConfig(
            f"encoder {config.path!r} has int8 = True, which needs torchao: pip install 'lifelong[torchao]' ({error})"
        ) from error
    copied = copy.deepcopy(module)
    quantize_(copied, Int8DynamicActivationInt8WeightConfig())
    return copied
