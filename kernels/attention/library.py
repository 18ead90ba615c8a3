"""Ragged attention by groups of equal length: each group is a dense batch, so no token is padded.

In a batch sorted by length, sequences of equal length are neighbours, so a group is a view of the rows. Long sequences
use torch's fused attention. Short sequences, which are most of real traffic, do not: the fused attention computes the
softmax row by row, does not vectorise it for rows shorter than 16, and spends two thirds of its time there. For short
sequences, the softmax is written out over all rows of the group at once.

A text gets the same bits in every batch and on any number of threads. Therefore the sum runs along the row, and the
exponential is `torch.exp`: torch's softmax, and its sum over a column, round differently at the end of a vector.

Both paths are differentiable; the learner trains through them.

Rejected:

- one attention over all tokens with a block-diagonal mask: it computes the masked scores, too, and is 7 times slower on
  64 short texts;
- padding to a common length: the same waste on a smaller scale;
- a softmax that does not subtract the maximum: the range of the scores would have to be checked.

Shape suffixes: T tokens of all sequences, R tokens of a group, B its sequences, S their length, H heads, D width of a
head, G = B * H, W = 3 * H * D.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import torch
from torch import Tensor

SHORT = 48
"""Sequences below this length take the written-out softmax; measured by `make bench ONLY=kernels`."""


@dataclass(frozen=True, slots=True)
class EqualLengths:
    """A run of neighbouring sequences of the same length: `count` sequences of `length` rows, from row `start` on."""

    start: int
    count: int
    length: int

    @property
    def num_rows(self) -> int:
        return self.count * self.length


def group_equal(offsets: Sequence[int]) -> tuple[EqualLengths, ...]:
    """Returns the groups of neighbouring sequences of equal length. Sequence i is rows offsets[i]:offsets[i + 1]."""
    lengths = [end - start for start, end in pairwise(offsets)]
    groups: list[EqualLengths] = []
    start = 0
    for length, run in groupby(lengths):
        groups.append(EqualLengths(start, len(list(run)), length))
        start += groups[-1].num_rows
    return tuple(groups)


def group_offsets(groups: Sequence[EqualLengths]) -> list[int]:
    """Returns the offsets of the sequences of `groups`: the inverse of `group_equal`."""
    offsets: list[int] = []
    for group in groups:
        offsets += range(group.start, group.start + group.num_rows, group.length)
    return [*offsets, sum(group.num_rows for group in groups)]


def repeat_kv(qkv_TX: Tensor, num_heads: int, num_kv_heads: int) -> Tensor:
    """Returns qkv_TW, in which every query head has its own copy of its keys and values.

    Query head h gets the keys and values of kv head h / (num_heads / num_kv_heads): grouped-query attention (Ainslie et
    al., arXiv:2305.13245).
    """
    if num_kv_heads == num_heads:
        return qkv_TX
    qkv_THD = qkv_TX.view(len(qkv_TX), num_heads + 2 * num_kv_heads, -1)
    kv_heads = [head // (num_heads // num_kv_heads) for head in range(num_heads)]
    keys = [num_heads + head for head in kv_heads]
    values = [num_heads + num_kv_heads + head for head in kv_heads]
    return qkv_THD[:, [*range(num_heads), *keys, *values]].flatten(1)


def attention(qkv_TW: Tensor, groups: Sequence[EqualLengths], num_heads: int, *, is_causal: bool = False) -> Tensor:
    """Returns out_TX float32 with X = H * D, for groups that cover all rows of qkv_TW in order."""
    pieces: list[Tensor] = []
    for group in groups:
        qkv_RW = qkv_TW[group.start : group.start + group.num_rows]
        attend = _short if group.length < SHORT else _long
        pieces.append(attend(qkv_RW, group.length, num_heads, is_causal))
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def _long(qkv_RW: Tensor, length: int, num_heads: int, is_causal: bool) -> Tensor:
    """Returns the attention of a group by torch's fused operation [R, H * D]."""
    num_rows, width = qkv_RW.shape
    split = qkv_RW.view(-1, length, 3, num_heads, width // (3 * num_heads))
    q_BHSD, k_BHSD, v_BHSD = split.permute(2, 0, 3, 1, 4).unbind(0)
    out_BHSD = torch.nn.functional.scaled_dot_product_attention(q_BHSD, k_BHSD, v_BHSD, is_causal=is_causal)
    return out_BHSD.transpose(1, 2).reshape(num_rows, width // 3)


def _short(qkv_RW: Tensor, length: int, num_heads: int, is_causal: bool) -> Tensor:
    """Returns the attention of a group with the softmax written out [R, H * D]."""
    num_rows, width = qkv_RW.shape
    head = width // (3 * num_heads)
    split = qkv_RW.view(-1, length, 3, num_heads, head)
    q_GSD, k_GSD, v_GSD = split.permute(2, 0, 3, 1, 4).reshape(3, -1, length, head).unbind(0)
    scores_Gqk = torch.baddbmm(q_GSD.new_empty(1, 1, 1), q_GSD, k_GSD.transpose(1, 2), beta=0, alpha=head**-0.5)
    if is_causal:
        scores_Gqk = scores_Gqk + scores_Gqk.new_full((length, length), -torch.inf).triu(1)
    p_Gqk = scores_Gqk.sub_(scores_Gqk.detach().amax(dim=2, keepdim=True)).exp_()
    out_GSD = torch.bmm(p_Gqk / p_Gqk.sum(dim=2, keepdim=True), v_GSD)
    return out_GSD.view(-1, num_heads, length, head).transpose(1, 2).reshape(num_rows, width // 3)
