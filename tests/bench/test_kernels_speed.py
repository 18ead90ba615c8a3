"""Checks that every kernel is timed, and its peers and the limit, too."""

import json

import pytest

from bench import hardware_limit, kernels
from bench.harness.machine import has_bfloat16
from kernels import linear_i8, native


def test_every_kernel_has_its_peers_and_the_limit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hardware_limit, "TRIES", 1)
    for name, value in {
        "SHAPES": ((128, 64),),
        "ROWS": (1, 3),
        "LENGTHS": (4, 9),
        "BUDGET_S": 0.001,
        "PEAK_ROWS": 8,
    }.items():
        monkeypatch.setattr(kernels, name, value)
    kernels.main(1)
    measured = json.loads(capsys.readouterr().out)
    assert measured["peak"]["giga_per_s"] > 0
    times = {each["name"]: each["us"] for each in measured["kernels"]}
    layers = ["linear_i8.128x64.1", "linear_i8.128x64.3", "linear_i4.128x64.1", "linear_i4.128x64.3"]
    attentions = ["attention_i8.128x4", "attention_i8.56x9", "attention.128x4", "attention.56x9"]
    assert list(times) == layers + attentions
    floats = {"float32"} | ({"bf16"} if has_bfloat16() else set())
    assert all(floats <= us.keys() for us in times.values())
    assert "torch/int4" in times["linear_i4.128x64.1"] and "softmax" in times["attention_i8.56x9"]
    first = next(isa for isa in native.ISAS if not native.why_unavailable(isa))
    assert {next(iter(us)) for us in times.values()} == {first, "library"}, "ours is the first"
    assert len(times["linear_i8.128x64.1"]) == len(floats) + sum(not impl.why_unavailable() for impl in linear_i8.IMPLS)
