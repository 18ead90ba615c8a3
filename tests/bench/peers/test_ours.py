"""Checks our own encoder as it is first published, its bytes, and its rate."""

import numpy as np
import pytest

from bench.harness.process import run_module
from bench.peers.ours import OurEngine, matrix_bytes, rate
from model.bert import load_encoder
from model.weights import encoder_tensors
from tests.model.small_encoder import SMALL, small_strata


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_vectors_have_unit_length_and_do_not_depend_on_the_batch(precision: str) -> None:
    prepared = OurEngine(*load_encoder("minilm-l6"), precision, 1).prepare([[101, 2073, 102]])
    assert prepared.how == "ragged"
    together = prepared.encode([[101, 2073, 102], [101, 2003, 2026, 102]])
    assert np.allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    assert np.array_equal(prepared.encode([[101, 2073, 102]])[0], together[0])


def test_int4_takes_about_half_of_int8_and_embeddings_are_left_out() -> None:
    found = matrix_bytes(encoder_tensors(small_strata()))
    weights = SMALL.n_layers * (4 * SMALL.d_model**2 + 2 * SMALL.d_model * SMALL.d_ff)
    scales = found["int8_bytes"] - weights
    assert 0 < scales < weights / 8
    assert found["int4_bytes"] == weights // 2 + weights // 64 + scales


def test_the_rate_is_of_whole_texts_and_is_printed() -> None:
    assert run_module("bench.peers.ours", "rate", "4")["operations_per_s"] > 1e6
    assert rate(4, seconds=0.01) > 1e6
