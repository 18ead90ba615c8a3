"""Checks which encoders are left out."""

import pytest

from bench.harness import machine
from bench.peers.engines import PEERS
from evals.results.row import Skip
from tests.model.small_encoder import small_strata

BF16 = [name for name in PEERS if name.endswith(" bf16")]


@pytest.mark.parametrize("name", BF16)
def test_a_precision_that_the_processor_emulates_is_left_out(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(machine, "flags", lambda: ["avx2"])
    with pytest.raises(Skip, match="emulates bfloat16"):
        PEERS[name](small_strata())


def test_every_encoder_of_bfloat16_has_a_counterpart_of_full_precision() -> None:
    unquantized = {"torch bf16": "torch fp32", "OpenVINO bf16": "torch fp32"}
    counterparts = {unquantized.get(name, name.removesuffix(" bf16")) for name in BF16}
    assert counterparts > {"torch fp32", "torch compiled", "OpenVINO mixed"}
    assert counterparts <= set(PEERS)
