"""Positions for longer texts than an encoder was trained for: the learned ones again and again.

    texts of at most as many tokens as before     the same vectors
    longer ones                                   every head sees a window and the first tokens, or another span

A position is of use to an encoder only beside others, and within a window these are what they were in training, but for
the one place in each repetition where the last is followed by the first. The pooling is over all tokens, so that the
vector of a long text is about the mean of those of its parts, in one pass and with a window that has no edges.

Rejected: interpolated positions (near tokens are told apart by what was learnt for whole steps), and vectors of pieces
in the service (a text would have several, and an answer no version that gives it in one pass).

Shape suffixes: P positions, D width.
"""

from dataclasses import replace

import torch

from model.config import Span
from model.convert.rebuild import rebuilt, state_of
from model.errors import WrongConfig
from model.strata import Strata

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
