"""The rate of the encoder, as the program prints it and as it is computed."""

from bench.harness.process import run_module
from bench.peers.encode_rate import rate


def test_the_rate_is_of_whole_texts_and_is_printed() -> None:
    assert run_module("bench.peers.encode_rate", "4")["operations_per_s"] > 1e6
    assert rate(4, seconds=0.01) > 1e6
