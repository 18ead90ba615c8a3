"""The padded encoder, from which the peers of the benchmarks are exported."""

import pytest
import torch

from bench.peers.rectangles import pad
from lifelong.compress.plain import PaddedEncoder
from model.ragged import RaggedBatch
from tests.model.small_encoder import small_strata


@pytest.mark.parametrize("fused", [True, False])
@torch.no_grad()
def test_padding_does_not_change_the_vectors(fused: bool) -> None:
    strata = small_strata()
    token_ids = [[5, 6, 7, 8], [1], [9, 8]]
    ids_BT, mask_BT = pad(token_ids)
    z_BD = PaddedEncoder(strata, fused=fused)(torch.from_numpy(ids_BT), torch.from_numpy(mask_BT))
    assert torch.allclose(z_BD, strata(RaggedBatch.of(token_ids)), atol=1e-5)
