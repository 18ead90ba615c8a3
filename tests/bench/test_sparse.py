"""Checks the rows of sparse layers, from made measurements, and that every layer is timed."""

import json

import pytest
import torch

from bench import sparse
from bench.sparse import CSR, DENSE, FLOAT, OURS, SparseTimes, crossover, layers, make_rows


def made(share: float, ours: float, csr: float) -> SparseTimes:
    return SparseTimes(1536, 384, 64, share, {OURS: ours, DENSE: 30.0, FLOAT: 200.0, CSR: csr})


CURVE = [made(0.5, 40.0, 900.0), made(0.8, 20.0, 500.0), made(0.9, 10.0, 250.0)]


def test_a_row_for_each_share_and_the_crossovers() -> None:
    *rows, last = make_rows(CURVE)
    assert [row.name for row in rows] == [f"sparse.1536x384.64.{share}" for share in (50, 80, 90)]
    assert [peer.name for peer in rows[0].calls[0].peers] == [DENSE, FLOAT, CSR], "the best peer is the first"
    assert rows[1].calls[0].ratio == 0.667
    assert (last.name, last.calls[0].value) == ("sparse.1536x384.64.crossover", 80)
    assert "torch CSR beside float32: never faster" in last.calls[0].note


def test_the_crossover_is_behind_the_last_share_that_is_slower() -> None:
    assert crossover(CURVE, OURS, DENSE) == 0.8
    assert crossover([*CURVE, made(0.95, 31.0, 1.0)], OURS, DENSE) is None
    assert crossover(CURVE[1:], OURS, DENSE) == 0.8


def test_the_worst_peer_does_not_count() -> None:
    assert CURVE[1].faster_than(DENSE, FLOAT) == 1.5
    assert CURVE[1].faster_than(FLOAT, "absent") == 10.0


@torch.no_grad()
def test_all_layers_compute_the_same_product() -> None:
    """The float layers get rows and weights without rounding, so they differ by the rounding of rows."""
    nothing = torch.empty(0)
    found = {name: layer(nothing) for name, layer in layers(64, 96, 5, 0.5).items()}
    ours = found[OURS]
    assert isinstance(ours, torch.Tensor)
    zeros, dense = found[DENSE], found[FLOAT]
    assert isinstance(zeros, torch.Tensor) and isinstance(dense, torch.Tensor)
    assert torch.equal(ours, zeros)
    for name, y in found.items():
        assert isinstance(y, torch.Tensor)
        if name == CSR:
            assert y.shape == (64, 5)
        elif name not in (OURS, DENSE):
            y = y.to_dense() if y.is_mkldnn else y
            torch.testing.assert_close(y, dense, rtol=1e-3, atol=1e-3 * float(dense.abs().max()))


def test_every_share_is_timed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    changed = {"SHAPES": ((32, 64),), "SLICE_S": 0.0005}
    for name, value in changed.items():
        monkeypatch.setattr(sparse, name, value)
    measured = [each for each in sparse.times(rows=(1, 3), shares=(0.5, 0.9), rounds=1)]
    assert [(each.num_rows, each.share) for each in measured] == [(1, 0.5), (1, 0.9), (3, 0.5), (3, 0.9)]
    assert all({OURS, DENSE, FLOAT} <= each.us.keys() for each in measured)
    monkeypatch.setattr(sparse, "times", lambda: measured[:1])
    sparse.main()
    (printed,) = json.loads(capsys.readouterr().out)
    assert SparseTimes(**printed) == measured[0]
