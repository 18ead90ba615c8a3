"""Measures which attention heads matter, and removes the others for good.

    texts --head_importance--> importance_LH --select--> kept heads of each layer --prune--> a smaller encoder

The importance of a head is the gradient of the loss with respect to a gate on its output:

    I_h = E_x |dL(x) / d xi_h|  at xi_h = 1; divided by its l2 norm over a layer's heads; mean over tasks

Michel et al., "Are Sixteen Heads Really Better than One?", arXiv 1905.10650, equation 2 and section 4.1. The
expectation is over texts: each text has gates of its own, so one backward pass gives the absolute gradient of every
text. L is the cross-entropy of a cosine classifier whose rows are the class means, so that no head has to be trained
first.

Heads are removed by whole units: a head of keys and values goes when all of its queries' heads go, and what is left of
a layer fills whole groups of inputs of `linear_i4`. Layers that share attention matrices lose the same heads, and the
importance of a shared head is the sum over its uses. What an encoder computes after it is what it computed with the
outputs of these heads set to 0.

Shape suffixes: B texts, H heads, T tokens, D width, C classes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby, repeat
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from kernels.linear_i4.reference import GROUP
from model.errors import WrongConfig
from model.linears import full_precision, linear_at, lora_of
from model.plan import BlockPlan, plan_of
from model.ragged import RaggedBatch, RaggedLayout
from model.strata import Strata, encode_many, map_heads

LOGIT_SCALE = 20.0
"""Logits are this times a cosine."""

TEXTS_AT_ONCE = 32
"""Texts of one backward pass."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledTexts:
    """The texts of one task as token ids, and the class of each, int64 from 0 on."""

    token_ids: Sequence[list[int]]
    labels_B: Tensor

    def batches(self) -> Iterator[tuple[RaggedBatch, Tensor]]:
        for start in range(0, len(self.token_ids), TEXTS_AT_ONCE):
            yield (
                RaggedBatch.of(self.token_ids[start : start + TEXTS_AT_ONCE]),
                self.labels_B[start : start + TEXTS_AT_ONCE],
            )


def head_importance(strata: Strata, tasks: Sequence[LabelledTexts]) -> list[Tensor]:
    """Returns the importance of each head, by layer, as `heads.select` reads it."""
    by_task = [_of_task(strata, task) for task in tasks]
    return [torch.stack(layer).mean(dim=0) for layer in zip(*by_task, strict=True)]


def _of_task(strata: Strata, task: LabelledTexts) -> list[Tensor]:
    means_CD = class_means(strata, task)
    heads = [block.heads for block in plan_of(strata.config).blocks]
    totals = [torch.zeros(count) for count in heads]
    for batch, labels_B in task.batches():
        gates = [torch.ones(len(labels_B), count, requires_grad=True) for count in heads]
        z_BD = _gated(strata, batch, gates)
        loss = functional.cross_entropy(LOGIT_SCALE * z_BD @ means_CD.t(), labels_B, reduction="sum")
        for total_H, grad_BH in zip(totals, torch.autograd.grad(loss, gates), strict=True):
            total_H += grad_BH.abs().sum(dim=0)
    return [total_H / total_H.norm().clamp(min=torch.finfo().tiny) for total_H in totals]


@torch.no_grad()
def class_means(strata: Strata, task: LabelledTexts) -> Tensor:
    """Returns the mean vector of each class, of unit length [C, D]."""
    z_BD = encode_many(strata, list(task.token_ids), batch_size=TEXTS_AT_ONCE)
    sums_CD = torch.zeros(int(task.labels_B.max()) + 1, z_BD.shape[1]).index_add_(0, task.labels_B, z_BD)
    return functional.normalize(sums_CD, dim=1)


def _gated(strata: Strata, batch: RaggedBatch, gates: Sequence[Tensor]) -> Tensor:
    """Returns z_BD with the output of every head multiplied by its gate [B, H] of the text, in the layout's order."""
    gate_of: dict[int, Tensor] = {}
    for block, gates_BH in zip(plan_of(strata.config).blocks, gates, strict=True):
        out = linear_at(strata, block.out.path)
        readers = (out, *(lora_of(out) or ())[:1])
        gate_of |= {id(reader): gates_BH for reader in readers}
    text_T = _text_of_token(batch.layout)

    def linear(x_TK: Tensor, layer: nn.Linear) -> Tensor:
        gates_BH = gate_of.get(id(layer))
        if gates_BH is not None:
            by_head = x_TK.view(len(x_TK), gates_BH.shape[1], -1)
            x_TK = (by_head * gates_BH[text_T].unsqueeze(2)).flatten(1)
        return full_precision(x_TK, layer)

    x_TD = strata.encode_prefix(batch, 0)
    return strata.forward_from(0, x_TD.detach(), batch.layout, linear=linear)


def _text_of_token(layout: RaggedLayout) -> Tensor:
    lengths = torch.tensor(layout.offsets).diff()
    return torch.arange(layout.num_sequences).repeat_interleave(lengths)


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
