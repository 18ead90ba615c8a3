"""Our own encoder takes a batch in one way, as it was first published."""

import numpy as np
import pytest

from bench.peers.ours import OurEngine
from model.bert import load_encoder


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_vectors_have_unit_length_and_do_not_depend_on_the_batch(precision: str) -> None:
    prepared = OurEngine(*load_encoder("minilm-l6"), precision, 1).prepare([[101, 2073, 102]])
    assert prepared.how == "ragged"
    together = prepared.encode([[101, 2073, 102], [101, 2003, 2026, 102]])
    assert np.allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    assert np.array_equal(prepared.encode([[101, 2073, 102]])[0], together[0])
