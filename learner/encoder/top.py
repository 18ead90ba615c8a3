"""The top blocks of an encoder, which rounds train: a copy of their own, their weights, and what lies below them."""

import copy
from collections.abc import Mapping
from hashlib import sha256
from itertools import chain, groupby
from typing import TypeVar

from torch import Tensor

from model.encoders import WholeEncoder
from model.grid import set_grids
from model.plan import layer_of, names_from

AnyEncoder = TypeVar("AnyEncoder", bound=WholeEncoder)


def with_own_top(strata: AnyEncoder, first_layer: int) -> AnyEncoder:
    """Returns a second encoder with its own copy of the blocks from `first_layer` on; the rest is shared."""
    lower = (strata.embed, *list(strata.layers)[:first_layer])
    shared = chain.from_iterable(each.modules() for each in lower)  # the top may use their matrices
    copied: AnyEncoder = copy.deepcopy(strata, {id(each): each for each in shared})
    copied.eval()
    return copied


def top_state(strata: WholeEncoder, first_layer: int) -> dict[str, Tensor]:
    """Returns the weights of the blocks from `first_layer` on, by name."""
    state = strata.state_dict()
    return {name: state[name] for name in names_from(state, first_layer)}


def load_top(strata: WholeEncoder, state: Mapping[str, Tensor]) -> None:
    """Writes back the weights that `top_state` returned, and the grids to which they are rounded."""
    set_grids(strata, state)
    strata.load_state_dict(dict(state), strict=False)


def lower_digests(strata: WholeEncoder) -> list[str]:
    """Returns the digests of the weights below each block, and last that of all weights.

    The first `first_layer` blocks are frozen, so entry `first_layer` identifies what training leaves unchanged. Weights
    that are pooled otherwise are another encoder.

    >>> from model.config import StrataConfig
    >>> from model.strata import Strata
    >>> len(lower_digests(Strata(StrataConfig(vocab=9, d_model=4, n_layers=2, n_heads=1, d_ff=4))))
    3
    """
    digest = sha256(strata.config.frozen_facts.encode())
    digests = list[str]()
    state = sorted(strata.state_dict().items(), key=lambda item: layer_of(item[0]))
    for layer, weights in groupby(state, key=lambda item: layer_of(item[0])):
        if layer >= 0:
            digests.append(digest.hexdigest())
        for name, value in weights:
            digest.update(name.encode())
            digest.update(value.contiguous().numpy())
    return [*digests, digest.hexdigest()]
