"""Measures which attention heads matter: by the gradient of the loss with respect to a gate on each head's output.

    I_h = E_x |dL(x) / d xi_h|  at xi_h = 1; divided by its l2 norm over a layer's heads; mean over tasks

Michel et al., arXiv 1905.10650, equation 2 and section 4.1. The expectation is over texts: each text has gates of its
own, so one backward pass gives the absolute gradient of every text. L is the cross-entropy of a cosine classifier whose
rows are the class means, so that no head has to be trained first.

Rejected: the importance of one task alone (it removes what other tasks need: section 4.3 there).

Shape suffixes: B texts, H heads, T tokens, D width, C classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.linears import full_precision, linear_at, lora_of
from model.plan import plan_of
from model.ragged import RaggedBatch, RaggedLayout
from model.strata import Strata, encode_many

SCALE = 20.0
"""Logits are this times a cosine."""

BATCH = 32
"""Texts of one backward pass."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledTexts:
    """The texts of one task as token ids, and the class of each, int64 from 0 on."""

    token_ids: Sequence[list[int]]
    labels_B: Tensor

    def batches(self) -> Iterator[tuple[RaggedBatch, Tensor]]:
        for start in range(0, len(self.token_ids), BATCH):
            yield RaggedBatch.of(self.token_ids[start : start + BATCH]), self.labels_B[start : start + BATCH]


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
        loss = functional.cross_entropy(SCALE * z_BD @ means_CD.t(), labels_B, reduction="sum")
        for total_H, grad_BH in zip(totals, torch.autograd.grad(loss, gates), strict=True):
            total_H += grad_BH.abs().sum(dim=0)
    return [total_H / total_H.norm().clamp(min=torch.finfo().tiny) for total_H in totals]


@torch.no_grad()
def class_means(strata: Strata, task: LabelledTexts) -> Tensor:
    """Returns the mean vector of each class, of unit length [C, D]."""
    z_BD = encode_many(strata, list(task.token_ids), batch_size=BATCH)
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
