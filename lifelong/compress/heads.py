"""Head pruning: measures the importance of attention heads and removes the least important ones.

    texts --head_importance--> importance_LH --select--> kept heads of each layer --prune--> a smaller encoder

The importance of a head is the gradient of the loss with respect to a gate on its output:

    I_h = E_x |dL(x) / d xi_h|  at xi_h = 1; divided by its l2 norm over a layer's heads; mean over tasks

(Michel et al., "Are Sixteen Heads Really Better than One?", arXiv 1905.10650, equation 2 and section 4.1.) The
expectation is over texts. Each text has its own gates, so one backward pass gives the absolute gradient of every text.
L is the cross-entropy of a cosine classifier whose rows are the class means, so no classification head has to be
trained first.

Heads are removed in units. A key-value head is removed together with all query heads that use it, and the remaining
heads of a layer fill whole input groups of `linear_i4`. Layers that share attention matrices lose the same heads, and
the importance of a shared head is the sum over the layers that use it. The pruned encoder computes the same as the
original with the outputs of the removed heads set to 0.

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
from model.linears import full_precision, linear_at, lora_pair
from model.plan import BlockPlan, build_plan
from model.ragged import RaggedBatch, RaggedLayout
from model.strata import Strata, encode_many, map_heads

LOGIT_SCALE = 20.0
"""The factor from a cosine to a logit."""

BATCH_SIZE = 32
"""The number of texts in one backward pass."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledTexts:
    """The texts of one task as token ids, and their classes, int64, counted from 0."""

    token_ids: Sequence[list[int]]
    labels_B: Tensor

    def batches(self) -> Iterator[tuple[RaggedBatch, Tensor]]:
        """Yields the texts and their classes in batches of BATCH_SIZE."""
        for start in range(0, len(self.token_ids), BATCH_SIZE):
            end = start + BATCH_SIZE
            yield RaggedBatch.of(self.token_ids[start:end]), self.labels_B[start:end]


def head_importance(strata: Strata, tasks: Sequence[LabelledTexts]) -> list[Tensor]:
    """Returns the importance [H] of the heads of each layer, the mean over the tasks."""
    by_task = [_task_importance(strata, task) for task in tasks]
    return [torch.stack(layer).mean(dim=0) for layer in zip(*by_task, strict=True)]


def _task_importance(strata: Strata, task: LabelledTexts) -> list[Tensor]:
    """Returns the importance [H] of the heads of each layer for one task, with an l2 norm of 1."""
    means_CD = class_means(strata, task)
    heads = [block.heads for block in build_plan(strata.config).blocks]
    totals = [torch.zeros(count) for count in heads]
    for batch, labels_B in task.batches():
        gates = [torch.ones(len(labels_B), count, requires_grad=True) for count in heads]
        z_BD = _encode_gated(strata, batch, gates)
        loss = functional.cross_entropy(LOGIT_SCALE * z_BD @ means_CD.t(), labels_B, reduction="sum")
        for total_H, grad_BH in zip(totals, torch.autograd.grad(loss, gates), strict=True):
            total_H += grad_BH.abs().sum(dim=0)
    return [total_H / total_H.norm().clamp(min=torch.finfo().tiny) for total_H in totals]


@torch.no_grad()
def class_means(strata: Strata, task: LabelledTexts) -> Tensor:
    """Returns the mean vector of each class, of unit length [C, D]."""
    z_BD = encode_many(strata, list(task.token_ids), batch_size=BATCH_SIZE)
    sums_CD = torch.zeros(int(task.labels_B.max()) + 1, z_BD.shape[1]).index_add_(0, task.labels_B, z_BD)
    return functional.normalize(sums_CD, dim=1)


def _encode_gated(strata: Strata, batch: RaggedBatch, gates: Sequence[Tensor]) -> Tensor:
    """Returns z_BD with the outputs of the heads multiplied by gates [B, H], one for each text and head.

    `gates` has a tensor for each layer. The texts are in the order of the batch's layout.
    """
    # The outputs of the heads are the input of the output projection, and of its low-rank part if it has one.
    layer_gates: dict[int, Tensor] = {}
    for block, gates_BH in zip(build_plan(strata.config).blocks, gates, strict=True):
        out = linear_at(strata, block.out.path)
        readers = (out, *(lora_pair(out) or ())[:1])
        layer_gates |= {id(reader): gates_BH for reader in readers}
    text_T = _text_indices(batch.layout)

    def linear(x_TK: Tensor, layer: nn.Linear) -> Tensor:
        gates_BH = layer_gates.get(id(layer))
        if gates_BH is not None:
            by_head = x_TK.view(len(x_TK), gates_BH.shape[1], -1)
            x_TK = (by_head * gates_BH[text_T].unsqueeze(2)).flatten(1)
        return full_precision(x_TK, layer)

    x_TD = strata.encode_prefix(batch, 0)
    return strata.forward_from(0, x_TD.detach(), batch.layout, linear=linear)


def _text_indices(layout: RaggedLayout) -> Tensor:
    """Returns the index of the text of each token, int64 [T]."""
    lengths = torch.tensor(layout.offsets).diff()
    return torch.arange(layout.num_sequences).repeat_interleave(lengths)


KeptHeads = Mapping[int, Sequence[int]]
"""The query heads that are kept, in order, by layer."""


class PruningUnit(NamedTuple):
    """Query heads of one bank that are removed together, and their mean importance."""

    importance: float
    bank: str
    heads: tuple[int, ...]


def select(strata: Strata, importance: Sequence[Tensor], fraction: float) -> KeptHeads:
    """Returns the heads to keep if at least `fraction` of all heads is removed, the least important heads first.

    `importance` has a tensor [H] for each layer. Every layer keeps at least one unit. Raises WrongConfig if too few
    heads can be removed.
    """
    blocks = build_plan(strata.config).blocks
    layers_by_bank = _layers_by_bank(blocks)
    units: list[PruningUnit] = []
    for layers in layers_by_bank.values():
        total_H = torch.stack([importance[layer] for layer in layers]).sum(dim=0)
        # The most important unit always stays.
        units += _pruning_units(blocks[layers[0]], total_H)[:-1]
    num_to_remove = fraction * sum(block.heads for block in blocks)
    removed: dict[str, set[int]] = {bank: set() for bank in layers_by_bank}
    num_removed = 0
    for unit in sorted(units):
        if num_removed >= num_to_remove:
            break
        removed[unit.bank].update(unit.heads)
        num_removed += len(unit.heads) * len(layers_by_bank[unit.bank])
    if num_removed < num_to_remove:
        raise WrongConfig(f"{fraction:.0%} of the heads cannot be removed; at most {num_removed} heads can")
    return {block.index: sorted({*range(block.heads)} - removed[block.qkv.name]) for block in blocks}


@torch.no_grad()
def prune(strata: Strata, kept: KeptHeads) -> Strata:
    """Returns the encoder with only these heads.

    Raises WrongConfig if a layer would keep some, but not all, of the query heads that share a key-value head.
    """
    blocks = build_plan(strata.config).blocks
    specs = []
    for block in blocks:
        heads = kept[block.index]
        group = block.heads // block.kv_heads
        kv_heads = _kv_heads(block, heads)
        spec = strata.config.layer(block.index)
        spans = _select_spans(heads, spec.spans)
        if not kv_heads or len(heads) != group * len(kv_heads):
            raise WrongConfig(f"layer {block.index} would keep heads {list(heads)}; expected whole groups of {group}")
        specs.append(replace(spec, heads=len(heads), kv_heads=len(kv_heads), spans=spans))
    return map_heads(
        strata,
        specs,
        rows=lambda layer, qkv: select_rows(blocks[layer], kept[layer], qkv),
        columns=lambda layer, out: select_columns(blocks[layer], kept[layer], out),
    )


@torch.no_grad()
def mask_heads(strata: Strata, kept: KeptHeads) -> Strata:
    """Returns an encoder of the same shape that computes the same as the pruned one: other heads contribute 0."""
    blocks = build_plan(strata.config).blocks

    def zeroed(layer: int, out: Tensor) -> Tensor:
        kept_columns = torch.zeros(blocks[layer].heads)
        kept_columns[list(kept[layer])] = 1
        return out * kept_columns.repeat_interleave(blocks[layer].head_width)

    specs = [strata.config.layer(block.index) for block in blocks]
    return map_heads(strata, specs, rows=lambda _, qkv: qkv, columns=zeroed)


def _layers_by_bank(blocks: Sequence[BlockPlan]) -> dict[str, list[int]]:
    """Returns the layers that use each attention bank."""
    layers: dict[str, list[int]] = {}
    for block in blocks:
        layers.setdefault(block.qkv.name, []).append(block.index)
    return layers


def _pruning_units(block: BlockPlan, importance_H: Tensor) -> list[PruningUnit]:
    """Returns the units of a layer, the least important first."""
    group = block.heads // block.kv_heads
    importance_G = importance_H.view(block.kv_heads, group).sum(dim=1)
    order = importance_G.argsort(stable=True).tolist()
    # `step` key-value heads with their query heads fill whole input groups of `linear_i4`. The first unit takes the
    # remainder, so the heads that are left after it fill whole groups.
    step = GROUP // math.gcd(GROUP, group * block.head_width)
    remainder = len(order) % step
    chunks = [order[start : start + step] for start in range(remainder, len(order), step)]
    if remainder:
        chunks.insert(0, order[:remainder])
    units: list[PruningUnit] = []
    for chunk in chunks:
        heads = tuple(chain.from_iterable(range(index * group, (index + 1) * group) for index in sorted(chunk)))
        units.append(PruningUnit(float(importance_H[list(heads)].mean()), block.qkv.name, heads))
    return units


def _kv_heads(block: BlockPlan, heads: Sequence[int]) -> list[int]:
    """Returns the key-value heads that these query heads use, in order."""
    group = block.heads // block.kv_heads
    return list(dict.fromkeys(head // group for head in heads))


def run_lengths(span_indices: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Returns the run-length encoding of the heads' spans: pairs of a number of heads and a span index.

    >>> run_lengths([1, 1, 0, 1])
    ((2, 1), (1, 0), (1, 1))
    """
    return tuple((len(list(run)), index) for index, run in groupby(span_indices))


def _select_spans(heads: Sequence[int], spans: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Returns the spans of these heads, run-length encoded like `spans`."""
    by_head = list(chain.from_iterable(repeat(index, count) for count, index in spans))
    return run_lengths([by_head[head] for head in heads]) if spans else ()


def select_rows(block: BlockPlan, heads: Sequence[int], qkv: Tensor) -> Tensor:
    """Returns the rows of these query heads and of the keys and values that they use."""
    by_head = qkv.reshape(block.heads + 2 * block.kv_heads, block.head_width, *qkv.shape[1:])
    kv_heads = _kv_heads(block, heads)
    keys = [block.heads + index for index in kv_heads]
    values = [block.heads + block.kv_heads + index for index in kv_heads]
    return by_head[[*heads, *keys, *values]].flatten(0, 1)


def select_columns(block: BlockPlan, heads: Sequence[int], out: Tensor) -> Tensor:
    """Returns the columns of the output projection that read these heads."""
    return out.reshape(len(out), block.heads, block.head_width)[:, list(heads)].flatten(1, 2)
