"""A supernet: one set of weights that holds every encoder of a search space, trained by the sandwich rule.

    dense encoder --narrow embedding, low-rank pairs--> Supernet --state(genes)--> weights of one encoder
    SandwichDistiller.step: the largest learns from the dense encoder; the smallest and two random ones from the largest

Each step trains the largest encoder, the smallest, and two random ones, and the others learn from the largest (Yu et
al., BigNAS, arXiv 2003.11142, section 3.1). The weights of an encoder are parts of the supernet's weights, by the
arithmetic of the other modules of this package:

- The embedding is factorised once, so its first E columns are the best embedding of width E (`reshape`).
- A group of tied layers uses the matrix of the layer nearest to their mean. Each layer has a low-rank pair for each
  matrix that it may share, whose first R components are the pair of rank R (`share`).
- Key-value heads are means over groups of heads (`reshape`). The heads with the highest importance stay (`heads`).
- The blocks with the least effect are zero (`sparsity`).

Shape suffixes: V vocabulary, N rows, K columns, R rank, H heads, Q quads, G groups of rows.
"""

import math
import random
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Final

import torch
from msgspec.structs import replace
from torch import Tensor, nn

from kernels.sparse_i8.reference import expand
from lifelong.compress.distillation import (
    Distiller,
    DistillOptions,
    LayerOutputs,
    Losses,
    add_gradients,
    outputs,
)
from lifelong.compress.heads import select_columns, select_rows
from lifelong.compress.reshape import factorise_embedding, pooled_rows
from lifelong.compress.share import ATTENTION_PARTS, FFN_PARTS, nearest_to_mean, truncated_svd
from lifelong.compress.space import RANKS, Genes, Space, groups
from lifelong.compress.sparsity import most_important
from model.linears import full_precision, linear_at
from model.plan import MatrixPlan, build_plan, layer_index
from model.ragged import RaggedBatch
from model.strata import State, Strata, change_heads, rebuilt, state_of, without_storage

NUM_RANDOM: Final = 2
"""Random encoders of a step."""


class Supernet(Strata):
    """The largest encoder of a space, and the low-rank pairs of all others. Its own forward pass is the largest's.

    `counts_V` has the frequencies of the tokens, `moments` the second moments [K] of the inputs of every matrix by
    name (`model.calibration.grams`), and `importance` the importance [H] of the heads of each layer
    (`lifelong.compress.heads.head_importance`), all of the dense encoder.
    """

    def __init__(
        self,
        dense: Strata,
        space: Space,
        *,
        counts_V: Tensor,
        moments: Mapping[str, Tensor],
        importance: Sequence[Tensor],
    ) -> None:
        narrow = factorise_embedding(dense, space.embed_dims[0], counts_V=counts_V)
        super().__init__(narrow.config)
        self.load_state_dict(state_of(narrow))
        self.space = space
        self._moments = moments
        self._importance = importance
        self._picks: dict[tuple[str, tuple[int, ...]], int] = {}
        """The layer whose matrix a group of layers shares, by part and group."""
        self.pairs = nn.ParameterDict()
        layers = range(narrow.config.n_layers)
        for parts in (ATTENTION_PARTS, FFN_PARTS):
            weights = [[linear_at(narrow, f"layers.{at}.{part}").weight.detach() for at in layers] for part in parts]
            for first, end in combinations(range(len(layers) + 1), 2):
                group = tuple(range(first, end))
                pick = first + nearest_to_mean([each[first:end] for each in weights])
                for part, each in zip(parts, weights, strict=True):
                    self._picks[part, group] = pick
                    for layer in group if len(group) > 1 else ():
                        self._add_pair(layer, part, pick, each[layer] - each[pick])
        self.eval()

    def state(self, genes: Genes) -> State:
        """Returns the weights of an encoder by name. They are parts of the supernet's: gradients reach them."""
        every = replace(genes, kept=(1.0,) * len(genes.kept))
        unpooled = self.space.config(replace(every, kv_heads=self.space.dense.n_heads))
        pooled = self.space.config(every)
        own: dict[str, Tensor] = dict(self.named_parameters())
        state = {name: value for name, value in own.items() if name.startswith("embed.")}
        for name in ("embed.word.weight", "embed.expand.weight"):
            state[name] = own[name][:, : genes.embed_dim]
        blocks = build_plan(unpooled).blocks
        for block in blocks:
            for norm in (block.norm1, block.norm2):
                state |= {f"{norm}.{kind}": own[f"{norm}.{kind}"] for kind in ("weight", "bias")}
            for matrix in block.matrices:
                state |= self._matrix(matrix, genes, own)
        change_heads(
            state,
            unpooled,
            rows=lambda layer, qkv: pooled_rows(blocks[layer], genes.kv_heads, qkv),
            columns=lambda _, out: out,
        )
        if every != genes:
            blocks_of_all = build_plan(pooled).blocks
            kept = self._kept_heads(genes)
            change_heads(
                state,
                pooled,
                rows=lambda layer, qkv: select_rows(blocks_of_all[layer], kept[layer], qkv),
                columns=lambda layer, out: select_columns(blocks_of_all[layer], kept[layer], out),
            )
        return state

    def extract(self, genes: Genes) -> Strata:
        """Returns an encoder with copies of its weights, in evaluation mode and without gradients."""
        state = {name: value.detach().clone() for name, value in self.state(genes).items()}
        return rebuilt(self.space.config(genes), state).requires_grad_(False)

    def layer_outputs(self, genes: Genes, batch: RaggedBatch) -> LayerOutputs:
        """Returns the outputs of the layers of an encoder, through which gradients reach the supernet."""
        runner = _Outputs(without_storage(self.space.config(genes)))
        state = {f"strata.{name}": value for name, value in self.state(genes).items()}
        found: LayerOutputs = torch.func.functional_call(runner, state, (batch,), tie_weights=False)
        return found

    def input_moments(self, genes: Genes) -> dict[str, Tensor]:
        """Returns the second moments [K] of the inputs of an encoder's feed-forward matrices, by name."""
        banks = build_plan(self.space.config(genes)).banks
        return {
            matrix.name: self._moments[f"layers.{self._pick(matrix, genes)}.{matrix.part}"]
            for matrix in banks
            if matrix.part in FFN_PARTS
        }

    def _pick(self, matrix: MatrixPlan, genes: Genes) -> int:
        """Returns the layer whose matrix the group of this matrix's layer uses."""
        ties = genes.attention if matrix.part in ATTENTION_PARTS else genes.ffn
        group = next(each for each in groups(ties) if layer_index(matrix.path) in each)
        return self._picks[matrix.part, group]

    def _matrix(self, matrix: MatrixPlan, genes: Genes, own: Mapping[str, Tensor]) -> State:
        """Returns the tensors of one matrix of a layer, before heads are pooled and removed."""
        layer = layer_index(matrix.path)
        pick = self._pick(matrix, genes)
        state = {f"{matrix.path}.bias": own[f"{matrix.path}.bias"]}
        if matrix.is_first:
            w_NK = own[f"layers.{pick}.{matrix.part}.weight"]
            if genes.sparsity and matrix.part in FFN_PARTS:
                moments_K = self._moments[f"layers.{pick}.{matrix.part}"]
                w_NK = w_NK * expand(most_important(w_NK.detach(), moments_K, genes.sparsity))
            state[f"{matrix.path}.weight"] = w_NK
            if matrix.in_scale:
                state[f"{matrix.path}.in_scale"] = torch.ones(matrix.columns)
        if matrix.lora_rank:
            a_RK, b_NR = (own[f"pairs.{_pair(layer, matrix.part, pick, kind)}"] for kind in "ab")
            state[f"{matrix.path}.lora_a.weight"] = a_RK[: matrix.lora_rank]
            state[f"{matrix.path}.lora_b.weight"] = b_NR[:, : matrix.lora_rank]
        return state

    def _kept_heads(self, genes: Genes) -> dict[int, list[int]]:
        """Returns the query heads that each layer keeps: the groups with the highest importance, in order."""
        kept: dict[int, list[int]] = {}
        size = self.space.dense.n_heads // genes.kv_heads
        for group in groups(genes.attention):
            importance_H = torch.stack([self._importance[layer] for layer in group]).sum(dim=0)
            order = importance_H.view(-1, size).sum(dim=1).argsort(descending=True, stable=True).tolist()
            chosen = sorted(order[: round(genes.kept[group[0]] * genes.kv_heads)])
            heads = [index * size + each for index in chosen for each in range(size)]
            kept |= dict.fromkeys(group, heads)
        return kept

    def _add_pair(self, layer: int, part: str, pick: int, residual_NK: Tensor) -> None:
        if _pair(layer, part, pick, "a") in self.pairs:
            return
        low = truncated_svd(residual_NK, min(max(RANKS), *residual_NK.shape))
        a_RK = low.a_RK
        if layer == pick:
            # The residual is 0. If both factors were 0, neither would ever have a gradient.
            rng = torch.Generator().manual_seed(layer)
            a_RK = torch.randn(a_RK.shape, generator=rng) / math.sqrt(a_RK.shape[1])
        self.pairs[_pair(layer, part, pick, "a")] = nn.Parameter(a_RK)
        self.pairs[_pair(layer, part, pick, "b")] = nn.Parameter(low.b_NR)


class _Outputs(nn.Module):
    """An encoder whose forward pass returns the outputs of all layers, for `functional_call`."""

    def __init__(self, strata: Strata) -> None:
        super().__init__()
        self.strata = strata

    def forward(self, batch: RaggedBatch) -> LayerOutputs:
        return outputs(self.strata, batch, full_precision)


def _pair(layer: int, part: str, pick: int, kind: str) -> str:
    return f"{layer}_{part}_{pick}_{kind}"


class SandwichDistiller(Distiller):
    """The training of a supernet. The arguments and errors are those of `Distiller`; its losses are the largest's."""

    student: Supernet

    def __init__(
        self, student: Supernet, teacher: Strata, token_ids: Sequence[list[int]], options: DistillOptions
    ) -> None:
        super().__init__(student, teacher, token_ids, options)
        self._seed = options.seed

    def step(self) -> Losses:
        batch = RaggedBatch.of(self.step_texts(self.num_done))
        with torch.no_grad():
            teacher = outputs(self.teacher, batch, full_precision)
        self._optimizer.zero_grad()
        largest = outputs(self.student, batch, full_precision)
        losses = add_gradients(largest, teacher)
        target = LayerOutputs([x_TD.detach() for x_TD in largest.layers], largest.z_BD.detach())
        space = self.student.space
        rng = random.Random(f"{self._seed} {self.num_done}")
        for genes in (space.smallest, *(space.draw(rng) for _ in range(NUM_RANDOM))):
            add_gradients(self.student.layer_outputs(genes, batch), target)
        for parameter in self._parameters.values():
            # A pair that no encoder of the step uses.
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        self._optimize()
        return losses
