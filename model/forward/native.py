"""The quantized encoder as one call into our own C."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from kernels import encoder, native
from kernels.allocator import keep_freed_memory
from kernels.linear_i4 import native as linear_i4
from kernels.linear_i4.reference import Int4Weight as WeightI4
from kernels.linear_i8 import native as linear_i8
from kernels.linear_i8.reference import Int8Weight as WeightI8
from model.config import StrataConfig
from model.errors import BadTokens
from model.forward import stored
from model.qtensor import QTensor
from model.ragged import RaggedBatch


def why_not(config: StrataConfig) -> list[str]:
    """Returns the reasons against the native encoder for models of this shape on this machine."""
    return encoder.why_not(width=config.d_model, positions=config.max_sequence, blocks=[_shape(config)])


class NativeForward:
    """A `Forward` in native code throughout. It uses as many threads as torch is set to."""

    def __init__(self, config: StrataConfig, tensors: Mapping[str, QTensor], precision: str) -> None:
        keep_freed_memory()
        self.arithmetic = native.identity()
        self._pack = _int8 if precision == "int8" else _int4
        blocks = [self._block(config, tensors, index) for index in range(config.n_layers)]
        embedding = stored.embedding(config, tensors)
        self._encoder = encoder.Encoder(embedding, blocks, pools_first=config.pooling == "cls", unit=config.normalize)

    def encode(self, batch: RaggedBatch) -> Tensor:
        return _run(self._encoder.encode, batch, rows=batch.layout.order)

    def tokens(self, batch: RaggedBatch, layers: int) -> Tensor:
        return _run(self._encoder.tokens, batch, layers=layers)

    def _block(self, config: StrataConfig, tensors: Mapping[str, QTensor], index: int) -> encoder.BlockWeights:
        path = f"layers.{index}"
        return encoder.BlockWeights(
            shape=_shape(config),
            qkv=self._pack(tensors[f"{path}.qkv"]),
            out=self._pack(tensors[f"{path}.out"]),
            norm1=stored.norm(tensors[f"{path}.norm1"], config, reader=tensors[f"{path}.up"]),
            up=self._pack(tensors[f"{path}.up"]),
            down=self._pack(tensors[f"{path}.down"]),
            norm2=stored.norm(tensors[f"{path}.norm2"], config, reader=tensors.get(f"layers.{index + 1}.qkv")),
        )


def _shape(config: StrataConfig) -> encoder.BlockShape:
    head_width = config.d_model // config.n_heads
    return encoder.BlockShape(config.n_heads, config.n_heads, head_width, inner=config.d_ff)


def _run(run: Callable[..., Tensor], batch: RaggedBatch, **options: object) -> Tensor:
    try:
        return run(batch.ids_T, batch.offsets, threads=torch.get_num_threads(), **options)
    except ValueError as error:  # the native encoder checks the tokens; a second check would cost more than the rest
        raise BadTokens(str(error)) from error


def _int8(tensor: QTensor) -> encoder.MatrixWeights:
    return encoder.MatrixWeights(linear_i8.pack_weight(WeightI8.of(tensor.q_NK, tensor.parts["scale"], tensor.bias)))


def _int4(tensor: QTensor) -> encoder.MatrixWeights:
    parts = tensor.parts
    weight = WeightI4(parts["hi"], parts["m"], parts["scale"], tensor.bias)
    return encoder.MatrixWeights(linear_i4.pack_weight(weight))
