"""A narrow token embedding, and a matrix that widens its rows: ALBERT's factorisation, arXiv 1909.11942, section 3.1.

    word_VD ~ narrow_VE @ expand_DE^T        by SVD; with counts, frequent tokens are met best

Half of a small encoder is its embedding, so tying layers alone cannot save more than the other half.

Shape suffixes: V vocabulary, D width, E narrow width.
"""

from dataclasses import replace

import torch
from torch import Tensor

from model.convert.rebuild import rebuilt, state_of
from model.errors import WrongConfig
from model.plan import plan_of
from model.strata import Strata

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
