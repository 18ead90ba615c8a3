"""The rate of the encoder is that of whole texts."""

from bench.process import run_module


def test_the_rate_is_printed() -> None:
    assert run_module("bench.peers.encode_rate", "4")["operations_per_s"] > 1e6
