"""Checks that both attentions are timed, on lengths that take no time."""

import json

import pytest

from bench import sparse_attention
from bench.sparse_attention import main


def test_every_length_has_ours_and_the_short_ones_have_both(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"LENGTHS": (64, 96), "MAX_FULL_LENGTH": 64, "BUDGET_S": 0.001}.items():
        monkeypatch.setattr(sparse_attention, name, value)
    main()
    first, second = json.loads(capsys.readouterr().out)
    assert list(first["ms"]) == ["ours", "torch's fused attention"]
    assert list(second["ms"]) == ["ours"]
