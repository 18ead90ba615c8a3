"""Other shapes of an encoder by arithmetic alone: longer positions, a narrow embedding, grouped keys.

    repeat_positions      the learned positions again and again, for longer texts than it was trained for
    factorise_embedding   word_VD ~ narrow_VE @ expand_DE^T by SVD; with counts, frequent tokens are met best
    pool_kv_heads         heads 0 1 2 | 3 4 5 ...: keys and values of a group are the mean of its heads' projections

Positions: texts of at most as many tokens as before get the same vectors. In longer ones every head sees a window and
the first tokens, or another span. A position is of use to an encoder only beside others, and within a window these are
what they were in training, but for the one place in each repetition where the last is followed by the first. The
pooling is over all tokens, so that the vector of a long text is about the mean of those of its parts, in one pass and
with a window that has no edges.

Embedding: ALBERT's factorisation, arXiv 1909.11942, section 3.1. Half of a small encoder is its embedding, so tying
layers alone cannot save more than the other half.

Keys: after GQA (Ainslie et al., arXiv 2305.13245, section 2.1), whose authors found means better than picking a head.

Shape suffixes: P positions, V vocabulary, D width, E narrow width.
"""

from dataclasses import replace

import torch
from torch import Tensor

from model.config import Span
from model.errors import WrongConfig
from model.plan import plan_of
from model.strata import Strata, map_heads, rebuilt, state_of

TABLE = "embed.position.weight"

WINDOW = 64
SINKS = 4
"""What a head sees of a long text where nothing is said: the tokens at most WINDOW away, and the first ones."""


@torch.no_grad()
def repeat_positions(strata: Strata, num_tokens: int, span: Span | None = None) -> Strata:
    """Returns the encoder for texts of up to `num_tokens`, in which heads see `span`. Raises WrongConfig.

    Heads that have spans already keep them only if all see every key.
    """
    config = strata.config
    if config.positions != "learned":
        raise WrongConfig(f"positions are {config.positions}; only a table of learned ones is repeated")
    if num_tokens <= config.max_sequence:
        raise WrongConfig(f"positions is {num_tokens}; expected more than the {config.max_sequence} that are there")
    if any(span.kind != "full" for span in config.spans):
        raise WrongConfig("heads have spans already; repeat the positions first")
    state = state_of(strata)
    first_PD, learned_PD = state[TABLE].tensor_split([config.first_position])
    times = -(-num_tokens // config.max_sequence)
    state[TABLE] = torch.cat([first_PD, learned_PD.repeat(times, 1)[:num_tokens]])
    span = replace(span or Span(kind="local", window=WINDOW, sinks=SINKS), dense_below=config.max_sequence + 1)
    layers = tuple(
        replace(config.layer(index), spans=((config.layer(index).heads, 0),)) for index in range(config.n_layers)
    )
    longer = replace(config, max_pos=config.first_position + num_tokens, spans=(span,), layers=layers)
    return rebuilt(longer, state)


SMOOTHING = 1.0
"""Added to the count of every token, so that those that never came keep a row of their own."""


@torch.no_grad()
def factorise_embedding(strata: Strata, embed_dim: int, *, counts_V: Tensor | None = None) -> Strata:
    """Returns the encoder with rows of `embed_dim` values for its tokens. Raises WrongConfig.

    `counts_V` says how often each token comes; the squared error of its row counts as often. At d_model the encoder
    computes the same as before.
    """
    config = strata.config
    if plan_of(config).embedding.expand is not None:
        raise WrongConfig(f"the embedding is {config.embed_dim} wide already; expected d_model = {config.d_model}")
    if not 0 < embed_dim < config.d_model:
        raise WrongConfig(f"embed_dim is {embed_dim}; expected 1 to {config.d_model - 1}")
    state = state_of(strata)
    word_VD = state["embed.word.weight"]
    weighted_VD = word_VD.double()
    if counts_V is not None:
        weighted_VD = weighted_VD * (counts_V.double() + SMOOTHING).sqrt()[:, None]
    _, basis_DD = torch.linalg.eigh(weighted_VD.t() @ weighted_VD)  # ascending; the right singular vectors
    expand_DE = basis_DD.flip(1)[:, :embed_dim].float()
    state["embed.word.weight"] = word_VD @ expand_DE
    state["embed.expand.weight"] = expand_DE.contiguous()
    return rebuilt(replace(config, embed_dim=embed_dim), state)


@torch.no_grad()
def pool_kv_heads(strata: Strata, kv_heads: int) -> Strata:
    """Returns the encoder with `kv_heads` heads of keys and values in each layer. Raises WrongConfig.

    Where the heads of a group were equal, it computes the same as before.
    """
    blocks = plan_of(strata.config).blocks
    if kv_heads < 1 or any(block.kv_heads % kv_heads for block in blocks):
        found = sorted({block.kv_heads for block in blocks})
        raise WrongConfig(f"kv_heads is {kv_heads}; expected a divisor of every layer's, which are {found}")

    def pooled(layer: int, rows: Tensor) -> Tensor:
        block = blocks[layer]
        num_queries = block.heads * block.head_width
        by_group = (2, kv_heads, block.kv_heads // kv_heads, block.head_width, *rows.shape[1:])
        keys_values = rows[num_queries:].reshape(by_group)
        return torch.cat((rows[:num_queries], keys_values.mean(dim=2).flatten(0, 2)))

    specs = [replace(strata.config.layer(block.index), kv_heads=kv_heads) for block in blocks]
    return map_heads(strata, specs, rows=pooled, columns=lambda _, out: out)
