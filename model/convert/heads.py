"""Removes attention heads for good.

    importance_LH --select--> kept heads of each layer --prune--> an encoder without the others

Heads are removed by whole units: a head of keys and values goes when all of its queries' heads go, and what is left of
a layer fills whole groups of inputs of `linear_i4`. Layers that share attention matrices lose the same heads, and the
importance of a shared head is the sum over its uses. What an encoder computes after it is what it computed with the
outputs of these heads set to 0 ("Are Sixteen Heads Really Better than One?", Michel et al., arXiv 1905.10650).

Rejected: a mask that stays in the model (it stores and computes what it hides).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, groupby, repeat
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.linear_i4.reference import GROUP
from model.convert.rebuild import map_heads
from model.errors import WrongConfig
from model.plan import BlockPlan, plan_of
from model.strata import Strata

Kept = Mapping[int, Sequence[int]]
"""Layer -> its heads of queries that stay, in their order."""


class Unit(NamedTuple):
    """Heads of one bank that are removed together, and their mean importance."""

    importance: float
    bank: str
    heads: tuple[int, ...]


def select(strata: Strata, importance: Sequence[Tensor], share: float) -> Kept:
    """Returns the heads that stay when the least important ones go, at least `share` of all. Raises WrongConfig.

    `importance` has a value for each head, by layer. Every layer keeps a unit at least.
    """
    blocks = plan_of(strata.config).blocks
    uses = _uses(blocks)
    units: list[Unit] = []
    for layers in uses.values():
        total = torch.stack([importance[layer] for layer in layers]).sum(dim=0)
        units += _units(blocks[layers[0]], total)[:-1]
    to_remove = share * sum(block.heads for block in blocks)
    removed: dict[str, set[int]] = {bank: set() for bank in uses}
    num_removed = 0
    for unit in sorted(units):
        if num_removed >= to_remove:
            break
        removed[unit.bank].update(unit.heads)
        num_removed += len(unit.heads) * len(uses[unit.bank])
    if num_removed < to_remove:
        raise WrongConfig(f"{share:.0%} of the heads cannot be removed; at most {num_removed} can")
    return {block.index: sorted({*range(block.heads)} - removed[block.qkv.name]) for block in blocks}


@torch.no_grad()
def prune(strata: Strata, kept: Kept) -> Strata:
    """Returns the encoder with these heads alone. Raises WrongConfig where they are no whole groups of a layer."""
    blocks = plan_of(strata.config).blocks
    specs = []
    for block in blocks:
        heads = kept[block.index]
        group = block.heads // block.kv_heads
        groups = _groups(block, heads)
        spans = _spans_of(heads, strata.config.layer(block.index).spans)
        if not groups or len(heads) != group * len(groups):
            raise WrongConfig(f"layer {block.index} would keep heads {list(heads)}; expected whole groups of {group}")
        spec = strata.config.layer(block.index)
        specs.append(replace(spec, heads=len(heads), kv_heads=len(groups), spans=spans))
    return map_heads(
        strata,
        specs,
        rows=lambda layer, qkv: _rows(blocks[layer], kept[layer], qkv),
        columns=lambda layer, out: _columns(blocks[layer], kept[layer], out),
    )


@torch.no_grad()
def mask_heads(strata: Strata, kept: Kept) -> Strata:
    """Returns an encoder of the same shape that computes what `prune` leaves: the other heads' outputs count for 0."""
    blocks = plan_of(strata.config).blocks

    def zeroed(layer: int, out: Tensor) -> Tensor:
        kept_columns = torch.zeros(blocks[layer].heads)
        kept_columns[list(kept[layer])] = 1
        return out * kept_columns.repeat_interleave(blocks[layer].head_width)

    specs = [strata.config.layer(block.index) for block in blocks]
    return map_heads(strata, specs, rows=lambda _, qkv: qkv, columns=zeroed)


def _uses(blocks: Sequence[BlockPlan]) -> dict[str, list[int]]:
    """Returns the layers that use each bank of attention."""
    uses: dict[str, list[int]] = {}
    for block in blocks:
        uses.setdefault(block.qkv.name, []).append(block.index)
    return uses


def _units(block: BlockPlan, importance_H: Tensor) -> list[Unit]:
    """Returns the units of a layer, the least important first."""
    group = block.heads // block.kv_heads
    importance_G = importance_H.view(block.kv_heads, group).sum(dim=1)
    order = importance_G.argsort(stable=True).tolist()
    step = GROUP // math.gcd(GROUP, group * block.head_width)
    spare = len(order) % step
    chunks = [order[start : start + step] for start in range(spare, len(order), step)]
    units: list[Unit] = []
    for chunk in [order[:spare], *chunks] if spare else chunks:
        heads = tuple(chain.from_iterable(range(index * group, (index + 1) * group) for index in sorted(chunk)))
        units.append(Unit(float(importance_H[list(heads)].mean()), block.qkv.name, heads))
    return units


def _groups(block: BlockPlan, heads: Sequence[int]) -> list[int]:
    """Returns the heads of keys and values that these heads of queries use, in order."""
    group = block.heads // block.kv_heads
    return list(dict.fromkeys(head // group for head in heads))


def runs_of(places: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Returns how many heads in a row have the same span, and which.

    >>> runs_of([1, 1, 0, 1])
    ((2, 1), (1, 0), (1, 1))
    """
    return tuple((len(list(run)), place) for place, run in groupby(places))


def _spans_of(heads: Sequence[int], spans: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Returns the spans of these heads."""
    by_head = list(chain.from_iterable(repeat(place, count) for count, place in spans))
    return runs_of([by_head[head] for head in heads]) if spans else ()


def _rows(block: BlockPlan, heads: Sequence[int], qkv: Tensor) -> Tensor:
    """Returns the rows of these heads, of their keys, and of their values."""
    by_head = qkv.reshape(block.heads + 2 * block.kv_heads, block.head_width, *qkv.shape[1:])
    groups = _groups(block, heads)
    keys = [block.heads + index for index in groups]
    values = [block.heads + block.kv_heads + index for index in groups]
    return by_head[[*heads, *keys, *values]].flatten(0, 1)


def _columns(block: BlockPlan, heads: Sequence[int], out: Tensor) -> Tensor:
    return out.reshape(len(out), block.heads, block.head_width)[:, list(heads)].flatten(1, 2)
