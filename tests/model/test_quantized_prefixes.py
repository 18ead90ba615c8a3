"""Encoders with common lower blocks continue from the rows that one of them has computed."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from model.config import StrataConfig
from model.errors import WrongShape
from model.plan import layer_index
from model.qtensor import QTensor
from model.quantized import PRECISIONS, QuantizedEncoder, common_layers
from model.ragged import RaggedBatch
from model.weights import encoder_tensors
from tests.model.small_encoder import SMALL, small_strata, stored

BATCH = RaggedBatch.of([[1, 2, 3, 4], [5], [6, 7, 8]])


@cache
def make_weights(config: StrataConfig, seed: int) -> dict[str, QTensor]:
    return stored(encoder_tensors(small_strata(config, seed=seed)))


def trained_on(layer: int, seed: int, config: StrataConfig) -> QuantizedEncoder:
    """Returns the encoder of seed 0 with other blocks from `layer` on."""
    upper = {name: each for name, each in make_weights(config, seed).items() if layer_index(name) >= layer}
    return QuantizedEncoder.from_tensors(config, make_weights(config, 0) | upper)


def test_encoders_have_the_blocks_below_their_training_in_common() -> None:
    config = replace(SMALL, n_layers=4)
    encoders = [trained_on(layer, seed, config) for layer, seed in ((0, 0), (2, 1), (3, 2), (-1, 3))]
    first, second, third, other = encoders
    assert common_layers([first]) == common_layers([first, trained_on(0, 0, config)]) == 4
    assert common_layers([first, third]) == 3
    assert common_layers([first, second, third]) == common_layers([third, second]) == 2
    assert common_layers(encoders) == common_layers([other, first]) == 0
    assert common_layers([first, QuantizedEncoder.from_tensors(config, encoder_tensors(small_strata(config)))]) == 0


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("normalize", [True, False])
def test_encoders_go_on_from_the_rows_that_one_of_them_made(normalize: bool, precision: str) -> None:
    config = replace(SMALL, n_layers=3, normalize=normalize)
    first = trained_on(1, 1, config)
    second = trained_on(2, 2, config)
    layer = common_layers([first, second])
    x_TD = first.encode_prefix(BATCH, layer, precision)
    found_BD = second.encode_from(layer, x_TD, BATCH.layout, precision)
    assert layer == 1
    assert torch.equal(found_BD, second.encode(BATCH, precision))
    assert not torch.equal(found_BD, first.encode(BATCH, precision))


@pytest.mark.parametrize("layer", [-1, 3])
def test_refuses_layers_that_are_not_there(layer: int) -> None:
    encoder = trained_on(0, 0, SMALL)
    with pytest.raises(WrongShape, match=f"layer is {layer}; expected 0 to 2"):
        encoder.encode_from(layer, torch.zeros(len(BATCH.ids_T), SMALL.d_model), BATCH.layout)
