"""The quantized encoder as a single call into our own C.

A matrix is packed once for all encoders of a process. If a new version differs from a version in memory only in its top
blocks, it uses the packed matrices of the lower blocks again. Matrices that were packed together are one allocation. It
stays in memory as long as an encoder uses any of them.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final, TypeAlias
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
from kernels.sparse_i8 import native as sparse_i8
from model.config import StrataConfig
from model.errors import BadTokens
from model.forward import stored
from model.plan import BlockPlan, MatrixPlan, build_plan
from model.qtensor import GROUPED, QTensor
from model.ragged import RaggedBatch, RaggedLayout
from model.sparse import BCSR, sparse_weight
from model.weights import read_lora, read_matrix, vectors_name

PackedKey: TypeAlias = tuple[str, str, bool]
"""Identifies a packed matrix: its digest, the digest of the vectors with its bias ("": no bias), and if it is INT4."""

_shared_matrices: Final = WeakValueDictionary[PackedKey, Tensor]()
"""The packed matrices of all encoders in use, which later encoders may use again."""


def why_unavailable(config: StrataConfig) -> list[str]:
    """Returns the reasons why the native encoder cannot run models of this shape on this machine; [] if it can."""
    blocks = build_plan(config).blocks
    for block in blocks:
        if reasons := why_not_spans(block.masked_spans, num_heads=block.heads, num_kv_heads=block.kv_heads):
            return reasons
    shapes = [_shape(block) for block in blocks]
    reasons = encoder.why_unavailable(width=config.d_model, positions=config.max_sequence, blocks=shapes)
    if config.positions == "rope" and config.width_of_head % (2 * LANES):
        reasons.append(f"heads that are rotated are {config.width_of_head} wide; expected a multiple of {2 * LANES}")
    return reasons


class NativeForward:
    """A `Forward` as one native call. It uses as many threads as `torch.set_num_threads` allows."""

    def __init__(self, config: StrataConfig, tensors: Mapping[str, QTensor], precision: str) -> None:
        keep_freed_memory()
        self.name = "native"
        self.arithmetic = native.identity()
        plan = build_plan(config)
        packer = _Packer(tensors, precision)
        expand = plan.embedding.expand
        embedding = stored.embedding(config, tensors, expand=_int8(tensors[expand.name]) if expand else None)
        blocks: list[encoder.BlockWeights] = []
        for block, following in zip_longest(plan.blocks, plan.blocks[1:]):
            parts: dict[str, Any] = {matrix.part: packer.pack_matrix(matrix) for matrix in block.matrices}
            parts["norm1"] = None
            readers = _readers(block, following)
            for path in block.norms:
                parts[path.rsplit(".", 1)[-1]] = stored.norm(tensors, path, config, reader=readers.get(path))
            if (head_norms := stored.head_norms(tensors, block, config)) is not None:
                parts["q_norm"], parts["k_norm"] = head_norms
            rotary = stored.rotary(config, block)
            shape = _shape(block)
            blocks.append(encoder.BlockWeights(shape, is_post_norm=block.is_post_norm, rotary=rotary, **parts))
        self._encoder = encoder.EncoderKernel(
            embedding,
            blocks,
            pools_first=config.pooling == "cls",
            unit=config.normalize,
            shared=packer.shared,
        )
        packer.register(blocks, self._encoder.blocks)

    def encode(self, batch: RaggedBatch) -> Tensor:
        return _run(self._encoder.encode, batch, rows=batch.layout.order)

    def tokens(self, batch: RaggedBatch, layers: int) -> Tensor:
        return _run(self._encoder.tokens, batch, layers=layers)

    def tokens_from(self, x_TD: Tensor, layout: RaggedLayout, layers: int) -> Tensor:
        threads = torch.get_num_threads()
        return self._encoder.tokens_from(x_TD, layout.offsets, layers=layers, threads=threads)

    def encode_from(self, layer: int, x_TD: Tensor, layout: RaggedLayout) -> Tensor:
        threads = torch.get_num_threads()
        return self._encoder.encode_from(x_TD, layout.offsets, layer=layer, rows=layout.order, threads=threads)


class _Packer:
    """Packs the matrices of one encoder. `shared` has the packed matrices of other encoders that it uses."""

    def __init__(self, tensors: Mapping[str, QTensor], precision: str) -> None:
        self.shared: list[Tensor] = []
        self._tensors = tensors
        self._precision = precision
        self._banks: dict[str, Tensor] = {}
        self._key_by_address: dict[int, PackedKey] = {}

    def pack_matrix(self, matrix: MatrixPlan) -> encoder.MatrixWeights:
        """Packs a matrix for its layer. The result contains the matrix, and the layer's own bias and low-rank pair.

        A matrix that several layers share (a bank) is packed with the bias of the lowest of these layers. So layers
        must be packed in order.
        """
        whole = read_matrix(self._tensors, matrix)
        if matrix.is_first:
            vectors = self._tensors[vectors_name(matrix.path)]
            self._banks[matrix.name] = self._pack(self._tensors[matrix.name], vectors.digest, whole)
        lora = read_lora(self._tensors, matrix)
        pair = None if lora is None else (self._pack_lora(lora[0]), self._pack_lora(lora[1]))
        return encoder.MatrixWeights(self._banks[matrix.name], None if matrix.is_first else whole.bias, pair)

    def register(self, packed: Sequence[encoder.BlockWeights], copied: Sequence[encoder.BlockWeights]) -> None:
        """Lets later encoders use the matrices of this encoder. `copied` are the kernel's copies of `packed`."""
        for before, after in zip(_packed_tensors(packed), _packed_tensors(copied), strict=True):
            key = self._key_by_address.get(before.data_ptr())
            if key is not None:
                _shared_matrices[key] = after

    def _pack_lora(self, whole: QTensor) -> Tensor:
        return self._pack(self._tensors[whole.name], "", whole)

    def _pack(self, stored: QTensor, vectors: str, whole: QTensor) -> Tensor:
        """Packs a matrix, unless another encoder has packed it.

        - `stored`: the matrix without bias and in_scale.
        - `whole`: the matrix with bias and in_scale.
        - `vectors`: the digest of the tensor with bias and in_scale.

        A matrix without an INT4 plane is INT8 in both precisions. A matrix without a digest is not shared.
        """
        is_int4 = self._precision == "int4" and stored.scheme in GROUPED
        key = (stored.digest, vectors, is_int4)
        shared = _shared_matrices.get(key) if stored.digest else None
        if shared is not None:
            self.shared.append(shared)
            return shared
        packed = _int4(whole) if is_int4 else _int8(whole)
        if stored.digest:
            self._key_by_address[packed.data_ptr()] = key
        return packed


def _packed_tensors(blocks: Sequence[encoder.BlockWeights]) -> list[Tensor]:
    """Returns all packed tensors, in the order in which the kernels read them."""
    tensors: list[Tensor] = []
    for block in blocks:
        for matrix in block.matrices:
            tensors += matrix.tensors
    return tensors


def _shape(block: BlockPlan) -> encoder.BlockShape:
    return encoder.BlockShape(
        block.heads, block.kv_heads, block.head_width, block.inner, block.masked_spans, block.activation
    )


def _readers(block: BlockPlan, following: BlockPlan | None) -> dict[str | None, MatrixPlan | None]:
    """Returns the matrix that reads the output of each norm, by the norm's path. `following` is the next block.

    With post-norm, the next block's `qkv` reads the output of a block's `norm2`. Nothing follows the last block.
    """
    if block.is_post_norm:
        return {block.norm1: block.up, block.norm2: following.qkv if following else None}
    return {block.norm1: block.qkv, block.norm2: block.up, block.final_norm: block.project}


def _run(run: Callable[..., Tensor], batch: RaggedBatch, **options: object) -> Tensor:
    """Calls a method of the kernel with the tokens of `batch`. Raises BadTokens."""
    try:
        return run(batch.ids_T, batch.layout.offsets, threads=torch.get_num_threads(), **options)
    except ValueError as error:
        # The native encoder checks the tokens itself. Checking them here would take longer.
        raise BadTokens(str(error)) from error


def _int8(tensor: QTensor) -> Tensor:
    if tensor.scheme == BCSR:
        return sparse_i8.pack_fastest(sparse_weight(tensor.parts))
    return linear_i8.pack_weight(WeightI8.of(tensor.q_NK, tensor.parts["scale"], tensor.bias))


def _int4(tensor: QTensor) -> Tensor:
    parts = tensor.parts
    return linear_i4.pack_weight(WeightI4(parts["hi"], parts["m"], parts["scale"], tensor.bias))
