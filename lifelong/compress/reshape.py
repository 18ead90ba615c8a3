"""Changes the shape of an encoder by arithmetic: more positions, a factorised embedding, grouped keys and values.

    repeat_positions      the learned positions repeated, for longer texts than the encoder was trained on
    factorise_embedding   word_VD ~ narrow_VE @ expand_DE^T by SVD; with counts, frequent tokens have the least error
    pool_kv_heads         heads 0 1 2 | 3 4 5 ...: keys and values of a group are the mean of its heads' projections

**Positions.** Texts that fitted before get the same vectors. In longer texts every head sees a window and the first
tokens, or another span. An encoder uses positions relative to each other, and within a window the relative positions
are the same as in training, except at the seam of two repetitions. Pooling is over all tokens, so the vector of a long
text is approximately the mean of the vectors of its parts, computed in one pass and without hard edges between parts.

**Embedding.** ALBERT's factorisation (arXiv 1909.11942, section 3.1). Half of the parameters of a small encoder are its
embedding, so tying layers cannot save more than the other half.

**Keys and values.** Grouped-query attention (GQA; Ainslie et al., arXiv 2305.13245, section 2.1). Its authors found the
mean of the heads to be better than one of the heads.

Shape suffixes: P positions, V vocabulary, D width, E narrow width.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from model.config import Span
from model.errors import WrongConfig
from model.plan import BlockPlan, build_plan
from model.strata import Strata, map_heads, rebuilt, state_of

TABLE = "embed.position.weight"

WINDOW = 64
SINKS = 4
"""The default span in long texts: the tokens at most WINDOW away, and the first SINKS tokens (attention sinks)."""


@torch.no_grad()
def repeat_positions(strata: Strata, num_tokens: int, span: Span | None = None) -> Strata:
    """Returns an encoder for texts of up to `num_tokens` tokens. In texts that were too long before, heads see `span`.

    Raises WrongConfig if positions are not learned, if `num_tokens` is not larger than before, or if a head has a
    limited span already.
    """
    config = strata.config
    if config.positions != "learned":
        raise WrongConfig(f"positions are {config.positions}; only learned positions can be repeated")
    if num_tokens <= config.max_sequence:
        raise WrongConfig(f"positions is {num_tokens}; expected more than the {config.max_sequence} that are there")
    if any(span.kind != "full" for span in config.spans):
        raise WrongConfig("heads have spans already; repeat the positions first")
    state = state_of(strata)
    # Some published tables begin with positions that no token has.
    unused_PD, learned_PD = state[TABLE].tensor_split([config.first_position])
    num_repetitions = math.ceil(num_tokens / config.max_sequence)
    state[TABLE] = torch.cat([unused_PD, learned_PD.repeat(num_repetitions, 1)[:num_tokens]])
    # Texts that fitted before see all keys, so their vectors stay the same.
    span = replace(span or Span(kind="local", window=WINDOW, sinks=SINKS), dense_below=config.max_sequence + 1)
    layers = tuple(
        replace(config.layer(index), spans=((config.layer(index).heads, 0),)) for index in range(config.n_layers)
    )
    longer = replace(config, max_pos=config.first_position + num_tokens, spans=(span,), layers=layers)
    return rebuilt(longer, state)


SMOOTHING = 1.0
"""Added to the count of every token (additive smoothing), so that unseen tokens do not lose their rows."""


@torch.no_grad()
def factorise_embedding(strata: Strata, embed_dim: int, *, counts_V: Tensor | None = None) -> Strata:
    """Returns the encoder with a token table of `embed_dim` columns and a matrix that expands them to d_model.

    The factorisation minimises the squared error of the table. With `counts_V`, the frequencies of the tokens, the
    squared error of each row is weighted by the count of its token. Raises WrongConfig if `embed_dim` is not below
    d_model or the embedding is factorised already.
    """
    config = strata.config
    if build_plan(config).embedding.expand is not None:
        raise WrongConfig(f"the embedding is {config.embed_dim} wide already; expected d_model = {config.d_model}")
    if not 0 < embed_dim < config.d_model:
        raise WrongConfig(f"embed_dim is {embed_dim}; expected 1 to {config.d_model - 1}")
    state = state_of(strata)
    word_VD = state["embed.word.weight"]
    weighted_VD = word_VD.double()
    if counts_V is not None:
        weighted_VD = weighted_VD * (counts_V.double() + SMOOTHING).sqrt()[:, None]
    # The eigenvectors of W^T W are the right singular vectors of W, here in ascending order.
    _, basis_DD = torch.linalg.eigh(weighted_VD.t() @ weighted_VD)
    expand_DE = basis_DD.flip(1)[:, :embed_dim].float()
    state["embed.word.weight"] = word_VD @ expand_DE
    state["embed.expand.weight"] = expand_DE.contiguous()
    return rebuilt(replace(config, embed_dim=embed_dim), state)


@torch.no_grad()
def pool_kv_heads(strata: Strata, kv_heads: int) -> Strata:
    """Returns the encoder with `kv_heads` key-value heads in each layer, each the mean of a group of heads.

    The encoder computes the same as before if the heads of a group were equal. Raises WrongConfig if `kv_heads` does
    not divide the number of key-value heads of every layer.
    """
    blocks = build_plan(strata.config).blocks
    if kv_heads < 1 or any(block.kv_heads % kv_heads for block in blocks):
        found = sorted({block.kv_heads for block in blocks})
        raise WrongConfig(f"kv_heads is {kv_heads}; expected a divisor of the kv_heads of every layer, {found}")
    specs = [replace(strata.config.layer(block.index), kv_heads=kv_heads) for block in blocks]
    return map_heads(
        strata, specs, rows=lambda layer, qkv: pooled_rows(blocks[layer], kv_heads, qkv), columns=lambda _, out: out
    )


def pooled_rows(block: BlockPlan, kv_heads: int, qkv: Tensor) -> Tensor:
    """Returns the rows of `qkv` with `kv_heads` key-value heads, each the mean of a group of the heads of `block`."""
    num_queries = block.heads * block.head_width
    by_group = (2, kv_heads, block.kv_heads // kv_heads, block.head_width, *qkv.shape[1:])
    keys_values = qkv[num_queries:].reshape(by_group)
    return torch.cat((qkv[:num_queries], keys_values.mean(dim=2).flatten(0, 2)))
