"""Checks that every kernel is timed, beside its peers and the limit."""

import re

import pytest

from bench import floor, kernels
from bench.machine import has_bfloat16


def test_every_kernel_has_its_peers_and_the_limit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(floor, "TRIES", 1)
    for name, value in {"SHAPES": ((128, 64),), "ROWS": (1, 3), "LENGTHS": (4, 9), "BUDGET_S": 0.001}.items():
        monkeypatch.setattr(kernels, name, value)
    kernels.main(1)
    first, *lines = capsys.readouterr().out.splitlines()
    assert re.match(r"INT8 peak: \d+ GOP/s, ", first)
    heads = [line.split() for line in lines[::3]]
    assert [head[0] for head in heads] == ["linear_i8", "linear_i4", "attention_i8"]
    floats = ["float32", *(["bf16"] if has_bfloat16() else []), "limit"]
    assert all(head[-len(floats) :] == floats for head in heads)
    assert "torch/int4" in heads[1]
    rows = [line for number, line in enumerate(lines) if number % 3]
    assert len(rows) == 6
    for row in rows:
        assert all(float(word) < float("inf") for word in row.split()[3:])
