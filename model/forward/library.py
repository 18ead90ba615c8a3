"""The quantized encoder in torch, operation by operation: the fallback of the native forward, and its reference.

As the fallback (`library`) it computes attention in float32, which is fastest in torch. As the reference (`reference`)
it computes attention in 8-bit integers, like the native forward.

Shape suffixes: T tokens of all texts, B texts, D width, F width inside a block, V vocabulary, P positions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from kernels import linear_i4, linear_i8
from kernels.allocator import keep_freed_memory
from kernels.attention import attention as float_attention
from kernels.encoder import NormWeights
from model.config import StrataConfig
from model.forward import stored
from model.plan import BlockPlan, MatrixPlan, build_plan
from model.qtensor import GROUPED, QTensor
from model.ragged import RaggedBatch, RaggedLayout
from model.strata import Attention, activate, attend
from model.weights import read_lora, read_matrix

Linear: TypeAlias = Callable[[Tensor], Tensor]

MAX_PIECE_TOKENS = 1024
"""A larger batch runs through the blocks in pieces of at most this many tokens. So a call takes less than 20 MB."""


@dataclass(frozen=True, slots=True)
class LibraryBlock:
    """One block of the encoder: its norms by name, and its attention and packed matrices as functions."""

    plan: BlockPlan
    attend: Callable[[Tensor, RaggedLayout], Tensor]
    norms: Mapping[str, NormWeights]
    qkv: Linear
    out: Linear
    up: Linear
    down: Linear
    project: Linear | None = None

    def __call__(self, x_TD: Tensor, layout: RaggedLayout) -> Tensor:
        """Computes the output of the block, as `strata.Block` does, from float32 x_TD, which is not changed."""
        if self.plan.is_post_norm:
            x_TD = self._norm("norm1", self._attention(x_TD, layout).add_(x_TD))
            x_TD = self._norm("norm2", self._feed_forward(x_TD).add_(x_TD))
        else:
            x_TD = x_TD + self._norm("out_norm", self._attention(self._norm("norm1", x_TD), layout))
            x_TD = x_TD + self._norm("down_norm", self._feed_forward(self._norm("norm2", x_TD)))
        x_TD = self._norm("final_norm", x_TD)
        return x_TD if self.project is None else self.project(x_TD)

    def _attention(self, x_TD: Tensor, layout: RaggedLayout) -> Tensor:
        return self.out(self.attend(self.qkv(x_TD), layout))

    def _feed_forward(self, x_TD: Tensor) -> Tensor:
        up_TU = self.up(x_TD)
        if self.plan.activation != "gelu":
            return self.down(activate(up_TU, self.plan.activation))
        torch.ops.aten.gelu_(up_TU)
        return self.down(up_TU)

    def _norm(self, name: str, x_TD: Tensor) -> Tensor:
        """Returns the rows after the norm, or the rows themselves if the block does not have this norm."""
        return _normalised(x_TD, self.norms[name]) if name in self.norms else x_TD


class LibraryForward:
    """A `Forward` in torch's operations, with the given implementation of attention."""

    def __init__(
        self,
        config: StrataConfig,
        tensors: Mapping[str, QTensor],
        precision: str,
        *,
        attention: Attention = float_attention,
    ) -> None:
        keep_freed_memory()
        self.name = "library" if attention is float_attention else "reference"
        # torch's libraries decide how they round, depending on their release and the processor.
        self.arithmetic = ""
        self._config = config
        self._embedding = stored.embedding(config, tensors)
        plan = build_plan(config)
        self._expand = _int8(tensors[plan.embedding.expand.name]) if plan.embedding.expand else None
        self._blocks: list[LibraryBlock] = []
        for block in plan.blocks:
            matrices = {matrix.part: _matrix(tensors, matrix, precision) for matrix in block.matrices}
            norms = {path.rsplit(".", 1)[-1]: stored.norm(tensors, path, config) for path in block.norms}
            pair = stored.head_norms(tensors, block, config)
            head_norms = None
            if pair is not None:
                head_norms = (partial(_normalised, norm=pair[0]), partial(_normalised, norm=pair[1]))
            attend_block = partial(attend, plan=block, attention=attention, head_norms=head_norms)
            self._blocks.append(LibraryBlock(block, attend_block, norms, **matrices))

    @torch.no_grad()
    def encode(self, batch: RaggedBatch) -> Tensor:
        batch.check(self._config.vocab, self._config.max_sequence)
        pieces = batch.pieces(MAX_PIECE_TOKENS)
        pooled = [self._pooled(0, self._embedded(piece), piece.layout) for piece in pieces]
        return self._finished(pooled, batch.layout)

    @torch.no_grad()
    def tokens(self, batch: RaggedBatch, layers: int) -> Tensor:
        batch.check(self._config.vocab, self._config.max_sequence)
        pieces = batch.pieces(MAX_PIECE_TOKENS)
        return torch.cat([self._run(self._blocks[:layers], self._embedded(piece), piece.layout) for piece in pieces])

    @torch.no_grad()
    def tokens_from(self, x_TD: Tensor, layout: RaggedLayout, layers: int) -> Tensor:
        blocks = self._blocks[:layers]
        pieces = layout.pieces(MAX_PIECE_TOKENS)
        return torch.cat([self._run(blocks, x_TD[piece.start : piece.stop], piece.layout) for piece in pieces])

    @torch.no_grad()
    def encode_from(self, layer: int, x_TD: Tensor, layout: RaggedLayout) -> Tensor:
        pieces = layout.pieces(MAX_PIECE_TOKENS)
        pooled = [self._pooled(layer, x_TD[piece.start : piece.stop], piece.layout) for piece in pieces]
        return self._finished(pooled, layout)

    def _pooled(self, layer: int, x_TD: Tensor, layout: RaggedLayout) -> Tensor:
        return layout.pooled(self._run(self._blocks[layer:], x_TD, layout), self._config.pooling)

    def _finished(self, pooled: Sequence[Tensor], layout: RaggedLayout) -> Tensor:
        z_BD = torch.cat(list(pooled))
        return layout.restore(functional.normalize(z_BD, dim=1) if self._config.normalize else z_BD)

    @staticmethod
    def _run(blocks: Sequence[LibraryBlock], x_TD: Tensor, layout: RaggedLayout) -> Tensor:
        for block in blocks:
            x_TD = block(x_TD, layout)
        return x_TD

    def _embedded(self, batch: RaggedBatch) -> Tensor:
        weights = self._embedding
        word_TE = weights.integers(batch.ids_T)
        scale_T1 = weights.scale_V.index_select(0, batch.ids_T).unsqueeze(1)
        # If queries and keys are rotated, `position_PD` is a single row, which all tokens share.
        position_TD = weights.position_PD
        if len(position_TD) > 1:
            position_TD = position_TD.index_select(0, batch.positions_T)
        if self._expand:
            x_TD = self._expand(word_TE * scale_T1).add_(position_TD)
        else:
            x_TD = torch.addcmul(position_TD, word_TE, scale_T1)
        return x_TD if weights.norm is None else _normalised(x_TD, weights.norm)


def _normalised(x_TD: Tensor, norm: NormWeights) -> Tensor:
    if norm.is_rms:
        return functional.rms_norm(x_TD, norm.gain_D.shape, norm.gain_D, norm.eps).add_(norm.bias_D)
    return functional.layer_norm(x_TD, norm.gain_D.shape, norm.gain_D, norm.bias_D, norm.eps)


def _int8(tensor: QTensor) -> Linear:
    packed = linear_i8.pack(tensor.q_NK, tensor.parts["scale"], tensor.bias)
    return _scaled(partial(linear_i8.linear_i8, packed=packed), tensor.in_scale)


def _int4(tensor: QTensor) -> Linear:
    packed = linear_i4.pack(tensor.parts["hi"], tensor.parts["m"], tensor.parts["scale"], tensor.bias)
    return _scaled(partial(linear_i4.linear_i4, packed=packed), tensor.in_scale)


def _scaled(linear: Linear, in_scale_K: Tensor | None) -> Linear:
    """Returns a function that multiplies its inputs by `in_scale_K` and calls `linear`; without scales, `linear`."""
    if in_scale_K is None:
        return linear
    return lambda x_MK: linear(x_MK * in_scale_K)


def _matrix(tensors: Mapping[str, QTensor], matrix: MatrixPlan, precision: str) -> Linear:
    """Returns the function y(x) of a matrix as its layer uses it, with bias and low-rank pair.

    A matrix without an INT4 plane is INT8 in both precisions.
    """
    stored_matrix = read_matrix(tensors, matrix)
    is_int8 = precision == "int8" or stored_matrix.scheme not in GROUPED
    bank = _int8(stored_matrix) if is_int8 else _int4(stored_matrix)
    lora = read_lora(tensors, matrix)
    if lora is None:
        return bank
    first, second = map(_int8, lora)
    return lambda x_MK: bank(x_MK).add_(second(first(x_MK)))
