"""Checks the number of operations of the encoder."""

import torch

from bench.hardware_limit import operations
from model.strata import Strata
from tests.model.small_encoder import SMALL


def test_operations_are_two_for_each_token_and_weight_of_the_blocks() -> None:
    weights = sum(m.weight.numel() for m in Strata(SMALL).layers.modules() if isinstance(m, torch.nn.Linear))
    assert operations(SMALL, [[1, 2], [3]]) == 2 * 3 * weights
