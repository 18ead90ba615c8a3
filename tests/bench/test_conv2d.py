"""Checks the rows of the convolutions, and that every contestant computes the same and is timed."""

import json

import pytest
import torch

from bench import conv2d
from bench.conv2d import DIRECT, IM2COL, OURS, im2col, make_rows, multiplications_saved
from evals.results.row import Peer
from kernels.conv2d import MEASURED_I8, reference
from tests.kernels.conv2d.images import filters, images

MEASURED = {
    "layers": [
        {
            "name": "64x28.8",
            "images_per_s": {OURS: 300.4, DIRECT: 100.0, IM2COL: 150.2},
            "chosen": "native/f4",
            "error": 3e-6,
        }
    ],
    "int8": [{"name": "64x28.8", "images_per_s": {"one": 90.0, "other": 180.0}, "chosen": "other"}],
    "step": {OURS: 20.0, DIRECT: 10.0},
}


def test_the_fastest_peer_is_the_first() -> None:
    layer, int8, step = make_rows(MEASURED)
    (call,) = layer.calls
    assert (layer.name, call.value, call.ratio) == ("conv2d.64x28.8", 300, 2.0)
    assert call.peers == (Peer(IM2COL, 150), Peer(DIRECT, 100))
    assert call.note == "native/f4; error 3.0e-06"
    assert (int8.name, int8.calls[0].ratio, int8.calls[0].note) == ("conv2d_i8.64x28.8", 2.0, "other")
    assert (step.name, step.calls[0].ratio) == ("conv2d.step", 2.0)


@pytest.mark.parametrize(("tile", "fewer"), [(2, 2.25), (4, 4.0)])
def test_multiplications_are_counted(tile: int, fewer: float) -> None:
    assert multiplications_saved(tile) == fewer


def test_im2col_is_the_convolution() -> None:
    x_BCHW = images(2, 5, 7, 4)
    w_OC33, _ = filters(6, 5)
    found = im2col(x_BCHW, w_OC33.permute(2, 3, 1, 0).reshape(-1, 6))
    assert torch.allclose(found, reference.conv2d(x_BCHW, w_OC33), atol=1e-4)


def test_every_contestant_is_timed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in {"TURN_S": 1e-5, "ROUNDS": 2, "STEP_IMAGES": 2}.items():
        monkeypatch.setattr(conv2d, name, value)
    conv2d.main(1, ((3, 5),))
    measured = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in measured["layers"]] == ["3x5.1", "3x5.8"]
    assert all(each["images_per_s"].keys() == {OURS, DIRECT, IM2COL} for each in measured["layers"])
    assert max(each["error"] for each in measured["layers"]) < 1e-4
    able = {impl.name for impl in MEASURED_I8 if not impl.why_unavailable(3)}
    assert all(each["images_per_s"].keys() == {*able, "torch float32"} for each in measured["int8"])
    assert measured["step"].keys() == {OURS, DIRECT, "direct, NCHW"}
    assert len([*make_rows(measured)]) == 5
