"""The forward in torch's operations: cutting a batch into pieces does not change the result."""

import pytest
import torch

from model.forward.library import LibraryForward
from model.ragged import RaggedBatch
from model.weights import encoder_tensors
from tests.model.small_encoder import SMALL, small_strata


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_pieces_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    forward = LibraryForward(SMALL, encoder_tensors(small_strata()), precision)
    batch = RaggedBatch.of([[1] * length for length in (9, 2, 30, 2, 17, 5)])
    whole = forward.encode(batch)
    prefix = forward.tokens(batch, 1)
    monkeypatch.setattr("model.forward.library.MAX_PIECE_TOKENS", 20)
    assert len(batch.pieces(20)) == 3
    assert torch.equal(forward.encode(batch), whole)
    assert torch.equal(forward.tokens(batch, 1), prefix)
