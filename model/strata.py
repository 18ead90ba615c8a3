"""The encoder in full precision, which is imported, trained, and the baseline of comparisons.

    ids_T --embed--> x_TD --block 0..L-1--> x_TD --mean over each text, unit length--> z_BD

A block is post-norm: x = norm1(x + out(attention(qkv(x)))), then x = norm2(x + down(gelu(up(x)))), after Devlin et al.,
BERT (arXiv 1810.04805); the pooling is Sentence-BERT's (arXiv 1908.10084). Module paths are the weight names of a
manifest, except for `embed.segment`, which is `embed.type` there (a module has a method of that name).

`forward_from(k, x_TD, layout)` starts in the middle, from activations at the input of block k that another encoder may
have computed: the learner trains the top blocks over a quantized bottom.

Shape suffixes: T tokens of all texts, B texts, D width.
"""

from collections.abc import Callable, Iterable
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from kernels.attention import attention
from model.config import StrataConfig
from model.errors import WrongShape
from model.ragged import RaggedBatch, RaggedLayout

Linear: TypeAlias = Callable[[Tensor, nn.Linear], Tensor]
"""Computes y_MN of x_MK and a layer: `full_precision`, or `fakequant.fake_layer` to train against served rounding."""


def full_precision(x_MK: Tensor, layer: nn.Linear) -> Tensor:
    return cast(Tensor, layer(x_MK))


class ScaledLinear(nn.Linear):
    """A linear layer whose inputs are multiplied, and its weight divided, by `in_scale` [K] before both are rounded.

    Full precision ignores the scales. `model.calibration` chooses them, and training does not change them.
    """

    in_scale: Tensor

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.register_buffer("in_scale", torch.ones(in_features))


class Embedding(nn.Module):
    """Adds token, position and segment embeddings, and normalises the sum."""

    def __init__(self, config: StrataConfig) -> None:
        super().__init__()
        self.word = nn.Embedding(config.vocab, config.d_model)
        self.position = nn.Embedding(config.max_pos, config.d_model)
        self.segment = nn.Embedding(config.type_vocab, config.d_model)
        self.norm = nn.LayerNorm(config.d_model, config.norm_eps)

    def forward(self, batch: RaggedBatch) -> Tensor:
        x_TD = self.word(batch.ids_T) + self.position(batch.positions_T) + self.segment.weight[0]
        return cast(Tensor, self.norm(x_TD))


class Block(nn.Module):
    def __init__(self, config: StrataConfig) -> None:
        super().__init__()
        self.num_heads = config.n_heads
        self.qkv = ScaledLinear(config.d_model, 3 * config.d_model)
        self.out = nn.Linear(config.d_model, config.d_model)
        self.norm1 = nn.LayerNorm(config.d_model, config.norm_eps)
        self.up = ScaledLinear(config.d_model, config.d_ff)
        self.down = nn.Linear(config.d_ff, config.d_model)
        self.norm2 = nn.LayerNorm(config.d_model, config.norm_eps)

    def forward(self, x_TD: Tensor, layout: RaggedLayout, linear: Linear) -> Tensor:
        qkv_TW = linear(x_TD, self.qkv)
        mixed_TD = attention(qkv_TW, layout.groups, num_heads=self.num_heads)
        x_TD = self.norm1(x_TD + linear(mixed_TD, self.out))
        inner_TF = functional.gelu(linear(x_TD, self.up))
        return cast(Tensor, self.norm2(x_TD + linear(inner_TF, self.down)))


class Strata(nn.Module):
    """The encoder. Its results are in the caller's order; activations `x_TD` are in the layout's."""

    def __init__(self, config: StrataConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.n_layers))

    def forward(self, batch: RaggedBatch) -> Tensor:
        """Returns z_BD of unit length for the texts of `batch`. Raises BadTokens."""
        return self.forward_from(0, self.encode_prefix(batch, 0), batch.layout)

    def encode_prefix(self, batch: RaggedBatch, layer: int) -> Tensor:
        """Returns x_TD at the input of block `layer`: 0 gives the embeddings, n_layers the last block's output.

        Raises BadTokens, or WrongShape for a layer outside [0, n_layers].
        """
        batch.check(self.config.vocab, self.config.max_pos)
        x_TD = self.embed(batch)
        for block in self._blocks(0, layer):
            x_TD = block(x_TD, batch.layout, full_precision)
        return cast(Tensor, x_TD)

    def forward_from(
        self, layer: int, x_TD: Tensor, layout: RaggedLayout, *, linear: Linear = full_precision
    ) -> Tensor:
        """Returns z_BD of unit length from the activations at the input of block `layer`. Raises WrongShape."""
        if x_TD.shape != (layout.num_tokens, self.config.d_model):
            expected = (layout.num_tokens, self.config.d_model)
            raise WrongShape(f"x_TD is {tuple(x_TD.shape)}; expected {expected}")
        return encode_through(self._blocks(layer, self.config.n_layers), x_TD, layout, linear)

    def _blocks(self, first: int, end: int) -> list[nn.Module]:
        if first < 0 or end < first or end > self.config.n_layers:
            raise WrongShape(f"blocks {first} to {end}; expected 0 <= first <= end <= {self.config.n_layers}")
        return list(self.layers)[first:end]


def encode_through(blocks: Iterable[nn.Module], x_TD: Tensor, layout: RaggedLayout, linear: Linear) -> Tensor:
    """Returns z_BD of unit length from the activations at the input of the first of the last `blocks`."""
    for block in blocks:
        x_TD = block(x_TD, layout, linear)
    return layout.restore(functional.normalize(layout.means(x_TD), dim=1))


def encode_many(encoder: Callable[[RaggedBatch], Tensor], token_ids: list[list[int]], *, batch_size: int) -> Tensor:
    """Returns z_BD for any number of texts, encoded `batch_size` at a time."""
    batches = [token_ids[start : start + batch_size] for start in range(0, len(token_ids), batch_size)]
    return torch.cat([encoder(RaggedBatch.of(batch)) for batch in batches])
