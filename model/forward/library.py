"""The quantized encoder in torch, operation by operation: the reference of the native forward, and its fallback.

The fallback computes attention in float32, which is fastest in torch. The reference has it in 8-bit integers, as in the
native forward.

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
from kernels.attention import EqualLengths, attention
from kernels.encoder import EmbeddingWeights, NormWeights
from model.config import StrataConfig
from model.forward import stored
from model.qtensor import QTensor
from model.ragged import RaggedBatch, RaggedLayout

Linear: TypeAlias = Callable[[Tensor], Tensor]
Attend: TypeAlias = Callable[..., Tensor]

MAX_PIECE_TOKENS = 1024
"""A larger batch runs through the blocks in pieces of at most so many tokens, so that a call needs less than 20 MB."""


@dataclass(frozen=True, slots=True)
class LibraryBlock:
    """The packed weights of one block, as functions of their input."""

    attend: Callable[[Tensor, Sequence[EqualLengths]], Tensor]
    qkv: Linear
    out: Linear
    norm1: NormWeights
    up: Linear
    down: Linear
    norm2: NormWeights

    def __call__(self, x_TD: Tensor, layout: RaggedLayout) -> Tensor:
        """Computes what `strata.Block` computes. The memory of `x_TD` may be overwritten."""
        mixed_TD = self.attend(self.qkv(x_TD), layout.groups)
        x_TD = _normalised(self.out(mixed_TD).add_(x_TD), self.norm1)
        inner_TF = self.up(x_TD)
        torch.ops.aten.gelu_(inner_TF)
        return _normalised(self.down(inner_TF).add_(x_TD), self.norm2)


class LibraryForward:
    """A `Forward` in torch's operations."""

    def __init__(
        self, config: StrataConfig, tensors: Mapping[str, QTensor], precision: str, *, attend: Attend = attention
    ) -> None:
        keep_freed_memory()
        self.arithmetic = ""  # torch's libraries choose
        self._config = config
        self._embedding = stored.embedding(config, tensors)
        pack = _int8 if precision == "int8" else _int4
        attend_heads = partial(attend, num_heads=config.n_heads)
        self._blocks = [
            _block(config, tensors, f"layers.{index}", pack, attend_heads) for index in range(config.n_layers)
        ]

    @torch.no_grad()
    def encode(self, batch: RaggedBatch) -> Tensor:
        batch.check(self._config.vocab, self._config.max_sequence)
        pooled: list[Tensor] = []
        for piece in batch.pieces(MAX_PIECE_TOKENS):
            x_TD = self._run(piece, len(self._blocks))
            pooled.append(piece.layout.pooled(x_TD, self._config.pooling))
        z_BD = torch.cat(pooled)
        return batch.layout.restore(functional.normalize(z_BD, dim=1) if self._config.normalize else z_BD)

    @torch.no_grad()
    def tokens(self, batch: RaggedBatch, layers: int) -> Tensor:
        batch.check(self._config.vocab, self._config.max_sequence)
        return torch.cat([self._run(piece, layers) for piece in batch.pieces(MAX_PIECE_TOKENS)])

    def _run(self, batch: RaggedBatch, layers: int) -> Tensor:
        x_TD = _embedded(batch, self._embedding)
        for block in self._blocks[:layers]:
            x_TD = block(x_TD, batch.layout)
        return x_TD


def _embedded(batch: RaggedBatch, weights: EmbeddingWeights) -> Tensor:
    word_TD = weights.word_VE.index_select(0, batch.ids_T).float()
    scale_T1 = weights.scale_V.index_select(0, batch.ids_T).unsqueeze(1)
    position_TD = weights.position_PD.index_select(0, batch.positions_T)
    return _normalised(torch.addcmul(position_TD, word_TD, scale_T1), weights.norm)


def _normalised(x_TD: Tensor, norm: NormWeights) -> Tensor:
    return functional.layer_norm(x_TD, norm.gain_D.shape, norm.gain_D, norm.bias_D, norm.eps)


def _int8(tensor: QTensor) -> Linear:
    packed = linear_i8.pack(tensor.q_NK, tensor.parts["scale"], tensor.bias)
    return _scaled(partial(linear_i8.linear_i8, packed=packed), tensor.in_scale)


def _int4(tensor: QTensor) -> Linear:
    packed = linear_i4.pack(tensor.parts["hi"], tensor.parts["m"], tensor.parts["scale"], tensor.bias)
    return _scaled(partial(linear_i4.linear_i4, packed=packed), tensor.in_scale)


def _scaled(linear: Linear, in_scale_K: Tensor | None) -> Linear:
    """Returns `linear` of inputs that are multiplied by `in_scale_K` first, if there is one."""
    if in_scale_K is None:
        return linear
    return lambda x_MK: linear(x_MK * in_scale_K)


def _block(
    config: StrataConfig, tensors: Mapping[str, QTensor], path: str, pack: Callable[[QTensor], Linear], attend: Attend
) -> LibraryBlock:
    return LibraryBlock(
        attend,
        qkv=pack(tensors[f"{path}.qkv"]),
        out=pack(tensors[f"{path}.out"]),
        norm1=stored.norm(tensors[f"{path}.norm1"], config),
        up=pack(tensors[f"{path}.up"]),
        down=pack(tensors[f"{path}.down"]),
        norm2=stored.norm(tensors[f"{path}.norm2"], config),
    )
