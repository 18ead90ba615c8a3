"""The forward in torch's operations: cutting a batch into pieces does not change the result."""

import pytest
import torch

from kernels.attention import attention as float_attention
from kernels.attention_i8 import attention as attention_i8
from model.config import StrataConfig
from model.fakequant import fake_layer
from model.forward.library import LibraryForward
from model.ragged import RaggedBatch
from model.strata import Attention
from model.weights import encoder_tensors
from tests.model.small_encoder import FAMILY, SMALL, select_rows, small_strata


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


@pytest.mark.parametrize("attention", [float_attention, attention_i8])
@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("config", FAMILY.values(), ids=FAMILY)
def test_goes_on_from_any_block_to_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, config: StrataConfig, precision: str, attention: Attention
) -> None:
    """The whole batch can continue, in pieces, and so can some of its texts. The rows are not changed."""
    monkeypatch.setattr("model.forward.library.MAX_PIECE_TOKENS", 40)
    forward = LibraryForward(config, encoder_tensors(small_strata(config)), precision, attention=attention)
    batch = RaggedBatch.of([[1] * 9, [2, 3], list(range(30)), [4], list(range(17))])
    expected = forward.encode(batch)
    for layer in range(config.n_layers + 1):
        x_TD = forward.tokens(batch, layer)
        before_TD = x_TD.clone()
        assert torch.equal(forward.encode_from(layer, x_TD, batch.layout), expected)
        layout, few_TD = select_rows(batch, x_TD, [2, 0, 3])
        assert torch.equal(forward.encode_from(layer, few_TD, layout), expected[[2, 0, 3]])
        assert torch.equal(x_TD, before_TD)


@pytest.mark.parametrize("config", FAMILY.values(), ids=FAMILY)
def test_the_family_is_what_training_against_its_rounding_computes(config: StrataConfig) -> None:
    """Full-precision blocks with fake rounding give the same bits as the packed blocks; INT4 is near them."""
    strata = small_strata(config)
    tensors = encoder_tensors(strata)
    forward = LibraryForward(config, tensors, "int8")
    batch = RaggedBatch.of([[4, 5, 6, 7], [3], list(range(40))])
    for layer in (0, config.n_layers - 1):
        over_served = strata.forward_from(layer, forward.tokens(batch, layer), batch.layout, linear=fake_layer)
        assert torch.equal(over_served, forward.encode(batch))
    assert (forward.encode(batch) * strata(batch)).sum(dim=1).min() > 0.995
    assert (LibraryForward(config, tensors, "int4").encode(batch) * strata(batch)).sum(dim=1).min() > 0.8
