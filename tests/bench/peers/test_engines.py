"""Checks which encoders are left out."""

import pytest

from bench import machine
from bench.peers.engines import PEERS
from bench.row import Skip
from tests.model.small_encoder import small_strata


@pytest.mark.parametrize("name", ["torch bf16", "OpenVINO bf16"])
def test_a_precision_that_the_processor_emulates_is_left_out(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(machine, "flags", lambda: ["avx2"])
    with pytest.raises(Skip, match="emulates bfloat16"):
        PEERS[name](small_strata())
