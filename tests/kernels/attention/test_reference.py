"""The definition of attention, against torch's own, sequence by sequence."""

from itertools import accumulate, pairwise

import torch
from torch.nn import functional

from kernels.attention import reference
from tests.kernels import tolerances

HEADS = 2
HEAD = 8


def test_it_is_softmax_attention_of_each_sequence_alone() -> None:
    offsets = [0, *accumulate([1, 5, 2])]
    qkv_TW = torch.randn(offsets[-1], 3 * HEADS * HEAD, generator=torch.Generator().manual_seed(0))
    found = reference.attention(qkv_TW, offsets, HEADS)
    for first, last in pairwise(offsets):
        q_HSX, k_HSX, v_HSX = qkv_TW[first:last].view(-1, 3, HEADS, HEAD).permute(1, 2, 0, 3)
        plain = functional.scaled_dot_product_attention(q_HSX, k_HSX, v_HSX)
        exact = functional.scaled_dot_product_attention(q_HSX.double(), k_HSX.double(), v_HSX.double())
        found_HSX = found[first:last].view(-1, HEADS, HEAD).transpose(0, 1)
        tolerances.assert_as_good(found_HSX, plain, exact)
