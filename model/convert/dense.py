"""The way back: the plain encoder that computes what a member of the family computes.

    shared matrices + low-rank additions -> each layer's own        narrow embedding @ expansion -> one table
    grouped keys and values -> repeated      removed heads -> heads of zeros      narrower inner parts -> zeros

Other programs read such an encoder, and it is the definition that tests compare with.
"""

from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor

from model.convert.rebuild import State, rebuilt, state_of
from model.errors import WrongConfig
from model.linears import effective_weight, linear_at
from model.plan import BlockPlan, plan_of
from model.strata import Strata


@torch.no_grad()
def to_dense(strata: Strata) -> Strata:
    """Returns the encoder whose layers are all alike and share nothing. Raises WrongConfig where spans limit a head."""
    config = strata.config
    plan = plan_of(config)
    spans = chain.from_iterable(block.spans for block in plan.blocks)
    if any(span.kind != "full" for _, span in spans):
        raise WrongConfig("some heads see a part of the keys; a plain encoder has no such heads")
    heads = max(config.n_heads, *(block.heads for block in plan.blocks))
    inner = max(config.d_ff, *(block.inner for block in plan.blocks))
    old = state_of(strata)
    state = {name: value for name, value in old.items() if name.startswith("embed.") or ".norm" in name}
    if plan.embedding.expand is not None:
        state["embed.word.weight"] = state["embed.word.weight"] @ state.pop("embed.expand.weight").t()
    for block in plan.blocks:
        state |= _block(strata, old, block, heads, inner)
    width = 0 if heads * config.width_of_head == config.d_model else config.width_of_head
    plain = replace(config, layers=(), embed_dim=0, n_heads=heads, d_ff=inner, head_width=width)
    return rebuilt(plain, state)


def _block(strata: Strata, old: State, block: BlockPlan, heads: int, inner: int) -> State:
    weights = {matrix.path: effective_weight(linear_at(strata, matrix.path)) for matrix in block.matrices}
    biases = {matrix.path: old[f"{matrix.path}.bias"] for matrix in block.matrices}
    qkv, out, up, down = (matrix.path for matrix in block.matrices)
    mixed = heads * block.head_width
    state = {
        f"{qkv}.weight": _own_heads(block, weights[qkv], heads),
        f"{qkv}.bias": _own_heads(block, biases[qkv], heads),
        f"{out}.weight": _padded(weights[out].t(), mixed).t().contiguous(),
        f"{out}.bias": biases[out],
        f"{up}.weight": _padded(weights[up], inner),
        f"{up}.bias": _padded(biases[up], inner),
        f"{down}.weight": _padded(weights[down].t(), inner).t().contiguous(),
        f"{down}.bias": biases[down],
    }
    for matrix in block.matrices:
        if matrix.in_scale:
            state[f"{matrix.path}.in_scale"] = old[f"{matrix.name}.in_scale"]
    return state


def _own_heads(block: BlockPlan, qkv: Tensor, heads: int) -> Tensor:
    """Returns the rows with keys and values of its own for every head, and rows of zeros for those that are missing."""
    counts = (block.heads, block.kv_heads, block.kv_heads)
    parts = torch.split(qkv, [count * block.head_width for count in counts])
    group = block.heads // block.kv_heads
    by_head = [part.reshape(-1, block.head_width, *part.shape[1:]) for part in parts]
    by_head[1:] = [part.repeat_interleave(group, dim=0) for part in by_head[1:]]
    return torch.cat([_padded(part, heads).flatten(0, 1) for part in by_head])


def _padded(rows: Tensor, num_rows: int) -> Tensor:
    padding = torch.zeros(num_rows - len(rows), *rows.shape[1:])
    return torch.cat((rows, padding))
