"""Depth tying: layers share their matrices, and each layer adds a low-rank matrix of its own.

    W_i = bank + B_i A_i        bank: the mean of the tied layers, or one of them        B_i A_i: SVD of the residual

After "Relaxed Recursive Transformers" (Bae et al., arXiv 2410.20672, section 2.4). Every layer keeps its own biases and
norms. The number of operations stays the same; only the stored size shrinks. Attention and the feed-forward part are
tied independently: ALBERT (arXiv 1909.11942, table 4) loses little by sharing attention and more by sharing the
feed-forward part.

The mean of layers that were trained independently is a poor start, because their inner units have no common order. One
of the layers, with low-rank additions, is better. The mean is for layers that were tied before and then drifted apart.

Shape suffixes: N rows, K columns, R rank.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from model.errors import WrongConfig
from model.plan import MatrixPlan, build_plan
from model.strata import State, Strata, rebuilt, state_of, with_layers

Start: TypeAlias = Literal["mean", "pick"]
"""How a bank starts: as the mean of the tied layers, or as the layer nearest to the mean."""

ATTENTION_PARTS: Final = ("qkv", "out")

FFN_PARTS: Final = ("up", "down")
"""The matrices that a layer shares together."""


def parse_ties(pattern: str, num_layers: int) -> tuple[int, ...]:
    """Returns, for each layer, the index of the layer whose matrices it uses. Layers with equal letters share matrices.

    Raises WrongConfig if the pattern does not have a letter for each layer.

    >>> parse_ties("aabbcc", 6)
    (0, 0, 2, 2, 4, 4)
    """
    if len(pattern) != num_layers:
        raise WrongConfig(f"ties are {pattern!r}; expected {num_layers} letters, one for each layer")
    return tuple(pattern.index(letter) for letter in pattern)


@torch.no_grad()
def share(
    strata: Strata, attention: Sequence[int], ffn: Sequence[int], *, rank: int = 0, start: Start = "pick"
) -> Strata:
    """Returns an encoder in which layer i uses the attention of layer attention[i] and the feed-forward part of ffn[i].

    Tied layers add matrices of rank `rank`. At a rank of d_model the encoder computes the same as before. Raises
    WrongConfig if layers share matrices already.
    """
    old = strata.config
    untied = [old.layer(index) for index in range(old.n_layers)]
    if any((spec.attention, spec.ffn) != (index, index) for index, spec in enumerate(untied)):
        raise WrongConfig("the layers share matrices already; expected each to have its own")
    is_tied = [max(attention.count(a), ffn.count(f)) > 1 for a, f in zip(attention, ffn, strict=True)]
    specs = [
        replace(spec, attention=attention[index], ffn=ffn[index], lora_rank=rank if is_tied[index] else 0)
        for index, spec in enumerate(untied)
    ]
    config = with_layers(old, specs)
    state = state_of(strata)
    for ties, parts in ((attention, ATTENTION_PARTS), (ffn, FFN_PARTS)):
        for bank in dict.fromkeys(ties):
            layers = [layer for layer, each in enumerate(ties) if each == bank]
            weights = [[state[f"layers.{layer}.{part}.weight"] for layer in layers] for part in parts]
            pick = nearest_to_mean(weights) if start == "pick" else None
            for matrices in zip(*(build_plan(config).blocks[layer].matrices for layer in layers), strict=True):
                if matrices[0].part in parts:
                    _tie(state, matrices, pick)
    return rebuilt(config, state)


def _tie(state: State, uses: Sequence[MatrixPlan], pick: int | None) -> None:
    """Replaces the weights of tied matrices by their bank, and adds the low-rank pairs. Changes `state`."""
    weights = [state.pop(f"{matrix.path}.weight") for matrix in uses]
    shared_NK = torch.stack(weights).mean(dim=0) if pick is None else weights[pick]
    for matrix, w_NK in zip(uses, weights, strict=True):
        if not matrix.is_first:
            state.pop(f"{matrix.path}.in_scale", None)
        if matrix.lora_rank:
            low = truncated_svd(w_NK - shared_NK, matrix.lora_rank)
            state |= {f"{matrix.path}.lora_a.weight": low.a_RK, f"{matrix.path}.lora_b.weight": low.b_NR}
    state[f"{uses[0].name}.weight"] = shared_NK


def nearest_to_mean(weights: Sequence[Sequence[Tensor]]) -> int:
    """Returns the place of the layer whose matrices are nearest to their means over all layers.

    `weights` has a sequence for each part, with the matrices of the layers. Both parts of a bank are from one layer,
    because the rows of the first and the columns of the second belong to the same heads or inner units. Of all layers,
    the nearest one leaves the smallest residuals.
    """
    distances = [0.0] * len(weights[0])
    for of_layers in weights:
        mean_NK = torch.stack(list(of_layers)).mean(dim=0)
        scale = float(torch.stack(list(of_layers)).square().mean())
        for place, w_NK in enumerate(of_layers):
            distances[place] += float((w_NK - mean_NK).square().mean()) / scale
    return distances.index(min(distances))


class LowRank(NamedTuple):
    """The matrix b_NR @ a_RK."""

    a_RK: Tensor
    b_NR: Tensor

    def product(self) -> Tensor:
        return self.b_NR @ self.a_RK


@torch.no_grad()
def truncated_svd(w_NK: Tensor, rank: int) -> LowRank:
    """Returns the best approximation of `w_NK` of at most this rank. From a rank of min(N, K) on it is exact.

    Both factors are scaled by the square roots of the singular values, so that gradient steps change them equally.
    Above a rank of min(N, K), the factors are padded with zeros.
    """
    left_NM, values_M, right_MK = torch.linalg.svd(w_NK.double(), full_matrices=False)
    kept = min(rank, len(values_M))
    roots_R = values_M[:kept].sqrt()
    a_RK = torch.zeros(rank, w_NK.shape[1])
    b_NR = torch.zeros(w_NK.shape[0], rank)
    a_RK[:kept] = (roots_R[:, None] * right_MK[:kept]).float()
    b_NR[:, :kept] = (left_NM[:, :kept] * roots_R).float()
    return LowRank(a_RK, b_NR)
