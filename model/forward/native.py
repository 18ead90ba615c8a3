"""The quantized encoder as one call into our own C.

Matrices are packed once for all encoders of a process: a version that trained the top blocks, or has another structure
above them, uses the packed matrices of the blocks that it has in common with a version that is there already. They stay
as long as an encoder uses one of those that were placed with them.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Final, TypeAlias
from weakref import WeakValueDictionary

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
from model.ragged import RaggedBatch, RaggedLayout
from model.weights import lora_of, matrix_of, vectors_of

PackedKey: TypeAlias = tuple[str, str, bool]
"""The digests of a matrix and of the vectors that its bias is from ("": none), and whether it is packed as INT4."""

_placed: Final = WeakValueDictionary[PackedKey, Tensor]()
"""The packed matrices of all encoders in use."""


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
        packer = _Packer(tensors, precision)
        expand = plan.embedding.expand
        embedding = stored.embedding(config, tensors, expand=_int8(tensors[expand.name]) if expand else None)
        readers = [block.qkv for block in plan.blocks[1:]]
        blocks: list[encoder.BlockWeights] = []
        for block, reader in zip_longest(plan.blocks, readers):
            matrices = {matrix.part: packer.weights_of(matrix) for matrix in block.matrices}
            blocks.append(
                encoder.BlockWeights(
                    shape=_shape(block),
                    norm1=stored.norm(tensors, block.norm1, config, reader=block.up),
                    norm2=stored.norm(tensors, block.norm2, config, reader=reader),
                    **matrices,
                )
            )
        self._encoder = encoder.EncoderKernel(
            embedding,
            blocks,
            pools_first=config.pooling == "cls",
            unit=config.normalize,
            placed=packer.found,
        )
        packer.share(blocks, self._encoder.blocks)

    def encode(self, batch: RaggedBatch) -> Tensor:
        return _run(self._encoder.encode, batch, rows=batch.layout.order)

    def tokens(self, batch: RaggedBatch, layers: int) -> Tensor:
        return _run(self._encoder.tokens, batch, layers=layers)

    def encode_from(self, layer: int, x_TD: Tensor, layout: RaggedLayout) -> Tensor:
        threads = torch.get_num_threads()
        return self._encoder.encode_from(x_TD, layout.offsets, layer=layer, rows=layout.order, threads=threads)


class _Packer:
    """Packs the matrices of one encoder, but for those that another one has placed, which are in `found`."""

    def __init__(self, tensors: Mapping[str, QTensor], precision: str) -> None:
        self.found: list[Tensor] = []
        self._tensors = tensors
        self._precision = precision
        self._banks: dict[str, Tensor] = {}
        self._keys: dict[int, PackedKey] = {}  # by address

    def weights_of(self, matrix: MatrixPlan) -> encoder.MatrixWeights:
        """Returns a matrix as its layer uses it: the weight that its bank packed with a bias, and what is the layer's.

        The layers come from the lowest on.
        """
        whole = matrix_of(self._tensors, matrix)
        if matrix.is_first:
            vectors = self._tensors[vectors_of(matrix.path)]
            self._banks[matrix.name] = self._packed(self._tensors[matrix.name], vectors.digest, whole)
        lora = lora_of(self._tensors, matrix)
        pair = None if lora is None else (self._of_pair(lora[0]), self._of_pair(lora[1]))
        return encoder.MatrixWeights(self._banks[matrix.name], None if matrix.is_first else whole.bias, pair)

    def share(self, packed: Sequence[encoder.BlockWeights], placed: Sequence[encoder.BlockWeights]) -> None:
        """Lets later encoders find what this one has placed."""
        for before, after in zip(_tensors_of(packed), _tensors_of(placed), strict=True):
            if before.data_ptr() in self._keys:
                _placed[self._keys[before.data_ptr()]] = after

    def _of_pair(self, whole: QTensor) -> Tensor:
        return self._packed(self._tensors[whole.name], "", whole)

    def _packed(self, stored: QTensor, vectors: str, whole: QTensor) -> Tensor:
        """Returns `whole`, which is `stored` with a bias, packed; a matrix without INT4 weights is INT8 in both."""
        is_int4 = self._precision == "int4" and stored.scheme != W8C
        key = (stored.digest, vectors, is_int4)
        found = _placed.get(key) if stored.digest else None
        if found is not None:
            self.found.append(found)
            return found
        packed = _int4(whole) if is_int4 else _int8(whole)
        if stored.digest:
            self._keys[packed.data_ptr()] = key
        return packed


def _tensors_of(blocks: Sequence[encoder.BlockWeights]) -> list[Tensor]:
    """Returns all packed tensors, in the order in which the kernels read them."""
    found: list[Tensor] = []
    for block in blocks:
        for matrix in block.matrices:
            found += matrix.tensors
    return found


def _shape(block: BlockPlan) -> encoder.BlockShape:
    return encoder.BlockShape(block.heads, block.kv_heads, block.head_width, block.inner, block.masked_spans)


def _run(run: Callable[..., Tensor], batch: RaggedBatch, **options: object) -> Tensor:
    try:
        return run(batch.ids_T, batch.layout.offsets, threads=torch.get_num_threads(), **options)
    except ValueError as error:  # the native encoder checks the tokens; a second check would cost more than the rest
        raise BadTokens(str(error)) from error


def _int8(tensor: QTensor) -> Tensor:
    return linear_i8.pack_weight(WeightI8.of(tensor.q_NK, tensor.parts["scale"], tensor.bias))


def _int4(tensor: QTensor) -> Tensor:
    parts = tensor.parts
    return linear_i4.pack_weight(WeightI4(parts["hi"], parts["m"], parts["scale"], tensor.bias))
