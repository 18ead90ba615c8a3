"""The blocks of a matrix: cutting, putting together, and the definition against the matrix with its zeros."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.linear_i8 import reference as linear_i8
from kernels.sparse_i8 import reference
from tests.kernels.linear_i8.layers import rows
from tests.kernels.sparse_i8.layers import weight

SIZES = st.integers(1, 5)
DENSITIES = st.sampled_from([0.0, 0.2, 0.7, 1.0])


@given(SIZES, SIZES, DENSITIES, st.integers(0, 1 << 30))
@settings(max_examples=50)
def test_blocks_are_cut_where_they_are_put(num_groups: int, num_quads: int, density: float, seed: int) -> None:
    layer = weight(num_groups, num_quads, density=density, seed=seed)
    q_NK = reference.dense(layer.blocks_BNQ, layer.mask_GQ)
    assert q_NK.shape == (16 * num_groups, 4 * num_quads)
    assert torch.equal(reference.cut(q_NK)[layer.mask_GQ], layer.blocks_BNQ)
    assert torch.equal(reference.whole(reference.cut(q_NK)), q_NK)
    assert not q_NK[~reference.expand(layer.mask_GQ)].any(), "other weights are 0"


def test_a_block_is_sixteen_outputs_by_four_inputs() -> None:
    q_NK = torch.arange(32 * 8).view(32, 8)
    assert torch.equal(reference.cut(q_NK)[1, 1], q_NK[16:32, 4:8])


@given(SIZES, SIZES, DENSITIES, st.integers(0, 1 << 30))
@settings(max_examples=50)
def test_sparse_is_dense_with_zeros(num_groups: int, num_quads: int, density: float, seed: int) -> None:
    layer = weight(num_groups, num_quads, density=density, seed=seed)
    x_MK = rows(5, layer.num_in, seed=seed)
    dense = linear_i8.Int8Weight.of(layer.as_int8().q_NK, layer.scale_N, layer.bias_N)
    assert torch.equal(reference.linear(x_MK, layer), linear_i8.linear(x_MK, dense))
