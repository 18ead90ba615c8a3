"""The bytes of the matrices that have both precisions."""

from bench.peers.ours import matrix_bytes
from model.weights import encoder_tensors
from tests.model.small_encoder import SMALL, small_strata


def test_int4_takes_about_half_of_int8_and_embeddings_are_left_out() -> None:
    found = matrix_bytes(encoder_tensors(small_strata()))
    weights = SMALL.n_layers * (4 * SMALL.d_model**2 + 2 * SMALL.d_model * SMALL.d_ff)
    scales = found["int8_bytes"] - weights
    assert 0 < scales < weights / 8
    assert found["int4_bytes"] == weights // 2 + weights // 64 + scales
