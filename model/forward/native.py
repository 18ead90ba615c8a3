"""The quantized encoder as one call into our own C."""

from collections.abc import Callable, Mapping
from itertools import zip_longest

import torch
from torch import Tensor

from kernels import encoder, native
from kernels.allocator import keep_freed_memory
from kernels.attention_i8.spans import LANES, why_not_spans
from kernels.linear_i4 import native as linear_i4
from kernels.linear_i4.reference import Int4Weight as WeightI4
from kernels.linear_i8 import native as linear_i8
from kernels.linear_i8.reference import Int8Weight as WeightI8
from model.config import StrataConfig
from model.errors import BadTokens
from model.forward import stored
from model.plan import BlockPlan, MatrixPlan, plan_of
from model.qtensor import W8C, QTensor
from model.ragged import RaggedBatch
from model.vectors import lora_of, matrix_of


def why_not(config: StrataConfig) -> list[str]:
    """Returns the reasons against the native encoder for models of this shape on this machine."""
    blocks = plan_of(config).blocks
    for block in blocks:
        if reasons := why_not_spans(block.masked_spans, num_heads=block.heads, num_kv_heads=block.kv_heads):
            return reasons
    shapes = [_shape(block) for block in blocks]
    reasons = encoder.why_not(width=config.d_model, positions=config.max_sequence, blocks=shapes)
    if config.positions == "rope" and config.width_of_head % (2 * LANES):
        reasons.append(f"heads that are rotated are {config.width_of_head} wide; expected a multiple of {2 * LANES}")
    return reasons


class NativeForward:
    """A `Forward` in native code throughout. It uses as many threads as torch is set to."""

    def __init__(self, config: StrataConfig, tensors: Mapping[str, QTensor], precision: str) -> None:
        keep_freed_memory()
        self.name = "native"
        self.arithmetic = native.identity()
        plan = plan_of(config)
        packed = {bank.name: _packed(matrix_of(tensors, bank), precision) for bank in plan.banks}
        expand = plan.embedding.expand
        embedding = stored.embedding(config, tensors, expand=_int8(tensors[expand.name]) if expand else None)
        readers = [block.qkv for block in plan.blocks[1:]]
        blocks: list[encoder.BlockWeights] = []
        for block, reader in zip_longest(plan.blocks, readers):
            matrices = {matrix.part: _matrix(tensors, matrix, packed[matrix.name]) for matrix in block.matrices}
            blocks.append(
                encoder.BlockWeights(
                    shape=_shape(block),
                    norm1=stored.norm(tensors, block.norm1, config, reader=block.up),
                    norm2=stored.norm(tensors, block.norm2, config, reader=reader),
                    **matrices,
                )
            )
        self._encoder = encoder.Encoder(embedding, blocks, pools_first=config.pooling == "cls", unit=config.normalize)

    def encode(self, batch: RaggedBatch) -> Tensor:
        return _run(self._encoder.encode, batch, rows=batch.layout.order)

    def tokens(self, batch: RaggedBatch, layers: int) -> Tensor:
        return _run(self._encoder.tokens, batch, layers=layers)


def _shape(block: BlockPlan) -> encoder.BlockShape:
    return encoder.BlockShape(block.heads, block.kv_heads, block.head_width, block.inner, block.masked_spans)


def _matrix(tensors: Mapping[str, QTensor], matrix: MatrixPlan, packed: Tensor) -> encoder.MatrixWeights:
    """Returns a matrix as its layer uses it: the weight that its bank packed with a bias, and what is the layer's."""
    bias_N = None if matrix.is_first else matrix_of(tensors, matrix).bias
    return encoder.MatrixWeights(packed, bias_N, _pair(lora_of(tensors, matrix)))


def _pair(lora: tuple[QTensor, QTensor] | None) -> tuple[Tensor, Tensor] | None:
    return None if lora is None else (_int8(lora[0]), _int8(lora[1]))


def _run(run: Callable[..., Tensor], batch: RaggedBatch, **options: object) -> Tensor:
    try:
        return run(batch.ids_T, batch.offsets, threads=torch.get_num_threads(), **options)
    except ValueError as error:  # the native encoder checks the tokens; a second check would cost more than the rest
        raise BadTokens(str(error)) from error


def _packed(tensor: QTensor, precision: str) -> Tensor:
    """Packs a matrix for a precision; one without INT4 weights inside is INT8 in both."""
    return _int8(tensor) if precision == "int8" or tensor.scheme == W8C else _int4(tensor)


def _int8(tensor: QTensor) -> Tensor:
    return linear_i8.pack_weight(WeightI8.of(tensor.q_NK, tensor.parts["scale"], tensor.bias))


def _int4(tensor: QTensor) -> Tensor:
    parts = tensor.parts
    return linear_i4.pack_weight(WeightI4(parts["hi"], parts["m"], parts["scale"], tensor.bias))
