"""Checks how row E8 sums up the layers; `tests/bench/harness/test_cases.py` runs the row."""

from typing import Any

import pytest

from bench.conv2d import DIRECT, IM2COL, OURS
from bench.harness.case import Case, Run
from bench.techniques import winograd
from bench.techniques.winograd import TECHNIQUE, measure


def layer(channels: int, ours: float) -> dict[str, Any]:
    rates = {OURS: ours, DIRECT: 10.0, IM2COL: 8.0}
    return {"name": f"{channels}", "channels": channels, "images_per_s": rates, "error": 1e-6 * channels}


def int8(exact: float, chosen: str) -> dict[str, Any]:
    return {"images_per_s": {"native/direct": 10.0, "native/exact_f2": exact}, "chosen": chosen}


def test_the_layer_that_gains_least_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    results = {
        "multiplications": {"f2": 2.25, "f4": 4.0},
        "layers": [layer(32, 12.0), layer(64, 30.0), layer(256, 24.0)],
        "int8": [int8(11.0, "native/exact_f2"), int8(9.0, "native/direct")],
        "step": {OURS: 30.0, DIRECT: 20.0, "direct, NCHW": 24.0},
    }
    monkeypatch.setattr(winograd, "measured", lambda *_, **__: results)
    case = Case.for_ledger("E8", measure, TECHNIQUE)
    rows = {row.name.removeprefix("E8."): row.calls[0] for row in measure(Run(case=case, say=print))}
    values = {name: call.value for name, call in rows.items()}
    assert values == {
        "multiplications_f2": 2.25,
        "multiplications_f4": 4.0,
        "error": pytest.approx(2.56e-4),
        "speed_direct": 2.4,
        "speed_direct_32": 1.2,
        "speed_im2col": 1.5,
        "step": 1.25,
        "int8_exact": 1.1,
    }
    assert all(call.met is not False for call in rows.values())
    assert rows["int8_exact"].note == "the table chooses native/direct: 1 of 2 layers, native/exact_f2: 1 of 2 layers"
