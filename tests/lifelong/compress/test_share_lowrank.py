"""Truncated singular value decompositions."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from lifelong.compress.share import truncated_svd


@given(rows=st.integers(1, 6), columns=st.integers(1, 6), rank=st.integers(1, 8), seed=st.integers(0, 99))
def test_the_error_is_the_norm_of_the_remaining_singular_values(rows: int, columns: int, rank: int, seed: int) -> None:
    w_NK = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    low = truncated_svd(w_NK, rank)
    assert low.a_RK.shape == (rank, columns)
    assert low.b_NR.shape == (rows, rank)
    left = torch.linalg.svdvals(w_NK)[rank:].square().sum()
    torch.testing.assert_close((low.product() - w_NK).square().sum(), left, atol=1e-4, rtol=1e-4)
