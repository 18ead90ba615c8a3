"""A dense encoder with four small layers, and texts, for tests of compression."""

import torch
from torch import Tensor

from model.config import StrataConfig
from model.ragged import RaggedBatch
from model.strata import Strata, rebuilt, state_of

DENSE = StrataConfig(vocab=60, d_model=64, n_layers=4, n_heads=4, d_ff=128, max_pos=40)

TOKEN_IDS = [[1, 5, 9, 2], [1, 7, 2], [1, 30, 31, 32, 33, 2], [1, 8, 59, 2], [1, 2], [1, 44, 7, 2]]


def dense_strata(config: StrataConfig = DENSE, *, seed: int = 0) -> Strata:
    """Returns an encoder whose weights are as large as trained weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        strata = Strata(config).eval().requires_grad_(False)
        for parameter in strata.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0.0, parameter.shape[1] ** -0.5)
            else:
                parameter.add_(torch.randn(parameter.shape) * 0.1)
    return strata


def changed(strata: Strata, **values: Tensor) -> Strata:
    """Returns the encoder with other values for some tensors. A dot in a name is written as two underscores."""
    named = {name.replace("__", "."): value for name, value in values.items()}
    return rebuilt(strata.config, state_of(strata) | named)


@torch.no_grad()
def vectors(strata: Strata) -> Tensor:
    z_BD: Tensor = strata(RaggedBatch.of(TOKEN_IDS))
    return z_BD


def largest_difference(one: Strata, other: Strata) -> float:
    return float((vectors(one) - vectors(other)).abs().max())


def num_stored(strata: Strata) -> int:
    return sum(parameter.numel() for parameter in strata.parameters())
