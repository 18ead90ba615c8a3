"""The model as it is served: INT8 or INT4 matrices, INT8 embeddings, everything between them in float32.

    batch --QuantizedEncoder.encode--> z_BD --QuantizedHead.logits--> logits_BC        (QuantizedModel.predict is both)

All three are immutable once made and may be shared between threads; two versions whose encoders are equal share one
encoder object. An answer depends on the text and the weights alone, to the last bit: neither the texts it was batched
with nor the number of threads (up to four) moves it.

INT4 is the upper plane of the blocks' INT8 weights; embeddings and head are the same in both precisions. Each batch may
choose anew.

Shape suffixes: T tokens of all texts, B texts, D width, F width inside a block, R random features, C classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from kernels import linear_i4
from kernels.attention import attention
from kernels.linear_i8 import PackedLinear, linear_i8, pack
from kernels.memory import keep_freed_memory
from model.config import StrataConfig
from model.errors import WrongShape
from model.head import OUT, PROJ
from model.qtensor import W8C, QTensor
from model.ragged import RaggedBatch, RaggedLayout
from model.weights import check_encoder, check_weight

Linear: TypeAlias = Callable[[Tensor], Tensor]

INT8, INT4 = PRECISIONS = ("int8", "int4")
"""What the same weights can be run in, the best first."""

PIECE_TOKENS = 1024
"""A larger batch runs through the blocks in pieces of this many tokens, so that what a call needs stays below 20 MB."""


@dataclass(frozen=True, slots=True)
class Norm:
    """Layer normalisation over the last axis."""

    gain_D: Tensor
    bias_D: Tensor
    eps: float

    def __call__(self, x_TD: Tensor) -> Tensor:
        return functional.layer_norm(x_TD, self.gain_D.shape, self.gain_D, self.bias_D, self.eps)


@dataclass(frozen=True, slots=True)
class QuantizedBlock:
    num_heads: int
    qkv: Linear
    out: Linear
    norm1: Norm
    up: Linear
    down: Linear
    norm2: Norm

    def __call__(self, x_TD: Tensor, layout: RaggedLayout) -> Tensor:
        """The same as `strata.Block`. `x_TD` is consumed: its memory may hold something else afterwards."""
        mixed_TD = attention(self.qkv(x_TD), layout.groups, num_heads=self.num_heads)
        x_TD = self.norm1(self.out(mixed_TD).add_(x_TD))
        inner_TF = self.up(x_TD)
        torch.ops.aten.gelu_(inner_TF)
        return self.norm2(self.down(inner_TF).add_(x_TD))


class QuantizedEncoder:
    """Texts to unit vectors."""

    def __init__(
        self,
        config: StrataConfig,
        word: QTensor,
        position_PD: Tensor,
        norm: Norm,
        blocks: Mapping[str, Sequence[QuantizedBlock]],
    ) -> None:
        self.config = config
        self._word_VD = word.parts["q"]
        self._word_scale_V = word.parts["scale"].float()
        self._position_PD = position_PD
        self._norm = norm
        self._blocks = blocks

    @classmethod
    def from_tensors(cls, config: StrataConfig, tensors: Mapping[str, QTensor]) -> "QuantizedEncoder":
        """Pack the stored weights. Raises MissingWeight or WrongShape, naming the weight."""
        check_encoder(config, tensors)
        keep_freed_memory()
        position_PD = tensors["embed.position"].dequantize() + tensors["embed.type"].dequantize()[0]
        norm = _norm(tensors["embed.norm"], config)
        blocks = {
            precision: [_block(config, tensors, f"layers.{index}", pack_as) for index in range(config.n_layers)]
            for precision, pack_as in ((INT8, _int8), (INT4, _int4))
        }
        return cls(config, tensors["embed.word"], position_PD, norm, blocks)

    @torch.no_grad()
    def encode(self, batch: RaggedBatch, precision: str = INT8) -> Tensor:
        """z_BD of unit length, in the caller's order. Raises BadTokens, and ValueError for another precision."""
        if precision not in PRECISIONS:
            raise ValueError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
        batch.check(self.config.vocab, self.config.max_pos)
        pieces = batch.pieces(PIECE_TOKENS)
        z_BD = torch.cat([piece.layout.means(self._run(piece, self.config.n_layers, precision)) for piece in pieces])
        return batch.layout.restore(functional.normalize(z_BD, dim=1))

    @torch.no_grad()
    def encode_prefix(self, batch: RaggedBatch, layer: int) -> Tensor:
        """x_TD at the input of block `layer` in INT8, in the layout's order: what `Strata.forward_from` goes on from.

        Raises BadTokens, or WrongShape for a layer outside [0, n_layers].
        """
        if not 0 <= layer <= self.config.n_layers:
            raise WrongShape(f"layer is {layer}; expected 0 to {self.config.n_layers}")
        batch.check(self.config.vocab, self.config.max_pos)
        return torch.cat([self._run(piece, layer, INT8) for piece in batch.pieces(PIECE_TOKENS)])

    def _run(self, batch: RaggedBatch, layer: int, precision: str) -> Tensor:
        x_TD = self._embed(batch)
        for block in self._blocks[precision][:layer]:
            x_TD = block(x_TD, batch.layout)
        return x_TD

    def _embed(self, batch: RaggedBatch) -> Tensor:
        word_TD = self._word_VD.index_select(0, batch.ids_T).float()
        scale_T1 = self._word_scale_V.index_select(0, batch.ids_T).unsqueeze(1)
        position_TD = self._position_PD.index_select(0, batch.positions_T)
        return self._norm(torch.addcmul(position_TD, word_TD, scale_T1))


class QuantizedHead:
    """Unit vectors to logits."""

    def __init__(self, config: StrataConfig, proj: PackedLinear, out: PackedLinear) -> None:
        self.config = config
        self._proj = proj
        self._out = out

    @classmethod
    def from_tensors(cls, config: StrataConfig, tensors: Mapping[str, QTensor]) -> "QuantizedHead":
        """Pack `head.proj` and `head.out`. Raises MissingWeight or WrongShape."""
        proj = check_weight(tensors, PROJ, W8C, (config.head_features, config.d_model))
        out = check_weight(tensors, OUT, W8C, (config.label_capacity, config.head_features))
        return cls(config, _pack(proj), _pack(out))

    @torch.no_grad()
    def features(self, z_BD: Tensor) -> Tensor:
        """features_BR: what `head.out` multiplies, and what the learner fits it on."""
        return linear_i8(z_BD, self._proj).relu_()

    @torch.no_grad()
    def logits(self, z_BD: Tensor, num_labels: int) -> Tensor:
        """logits [B, num_labels]; the spare rows of the head are left out. Raises WrongShape."""
        if not 0 <= num_labels <= self.config.label_capacity:
            raise WrongShape(f"num_labels is {num_labels}; expected 0 to {self.config.label_capacity}")
        return linear_i8(self.features(z_BD), self._out)[:, :num_labels]


class QuantizedModel:
    """An encoder, a head, and the names of the head's rows: one version of the weights, ready to answer."""

    def __init__(self, encoder: QuantizedEncoder, head: QuantizedHead, labels: Sequence[str]) -> None:
        if encoder.config != head.config:
            raise WrongShape("encoder and head have different configs")
        if len(labels) > head.config.label_capacity or len(set(labels)) != len(labels):
            raise WrongShape(f"{len(labels)} labels; expected at most {head.config.label_capacity}, all different")
        self.encoder = encoder
        self.head = head
        self.labels = tuple(labels)

    @classmethod
    def from_tensors(
        cls, config: StrataConfig, tensors: Mapping[str, QTensor], *, labels: Sequence[str]
    ) -> "QuantizedModel":
        """Pack a whole version; to share an encoder, pass the parts to the constructor instead."""
        encoder = QuantizedEncoder.from_tensors(config, tensors)
        return cls(encoder, QuantizedHead.from_tensors(config, tensors), labels)

    def predict(self, batch: RaggedBatch, precision: str = INT8) -> Tensor:
        """logits [B, len(labels)] in the caller's order. Raises BadTokens, and ValueError for another precision."""
        return self.head.logits(self.encoder.encode(batch, precision), len(self.labels))


def _pack(tensor: QTensor) -> PackedLinear:
    return pack(tensor.q_NK, tensor.parts["scale"], tensor.bias)


def _int8(tensor: QTensor) -> Linear:
    return partial(linear_i8, packed=_pack(tensor))


def _int4(tensor: QTensor) -> Linear:
    packed = linear_i4.pack(tensor.parts["hi"], tensor.parts["m"], tensor.parts["scale"], tensor.bias)
    return partial(linear_i4.linear_i4, packed=packed)


def _norm(tensor: QTensor, config: StrataConfig) -> Norm:
    gain_D, bias_D = tensor.parts["value"].unbind(0)
    return Norm(gain_D, bias_D, config.norm_eps)


def _block(
    config: StrataConfig, tensors: Mapping[str, QTensor], path: str, pack_as: Callable[[QTensor], Linear]
) -> QuantizedBlock:
    return QuantizedBlock(
        config.n_heads,
        qkv=pack_as(tensors[f"{path}.qkv"]),
        out=pack_as(tensors[f"{path}.out"]),
        norm1=_norm(tensors[f"{path}.norm1"], config),
        up=pack_as(tensors[f"{path}.up"]),
        down=pack_as(tensors[f"{path}.down"]),
        norm2=_norm(tensors[f"{path}.norm2"], config),
    )
