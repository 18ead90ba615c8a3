"""Tests a folder with the weights as they are served."""

from pathlib import Path

import torch

from model.bert import load_encoder
from model.grid import find_grid
from model.member import WEIGHTS, read_member, read_stored
from services.members.adopt import quantize
from tests.services.members.small import write_small


def silent(_: str) -> None:
    """Shows nothing."""


def test_the_folder_holds_what_a_version_ships(tmp_path: Path) -> None:
    source = write_small(tmp_path / "source")
    stored = quantize(source, tmp_path / "out", say=silent)
    assert stored.cosines["int8"] > 0.99
    assert stored.cosines["int4"] < stored.cosines["int8"]
    assert any("as served: int8" in line for line in stored.lines())
    member = read_member(tmp_path / "out")
    assert member is not None
    assert [step["step"] for step in member.history] == ["quantize"]
    size = (tmp_path / "out" / WEIGHTS).stat().st_size
    assert size < (tmp_path / "source" / WEIGHTS).stat().st_size / 2
    assert abs(size - stored.made.bytes) < 0.2 * size
    tensors = read_stored(tmp_path / "out", member)
    word = load_encoder(str(tmp_path / "out"))[0].get_parameter("embed.word.weight")
    torch.testing.assert_close(word, tensors["embed.word"].dequantize())


def test_int4_alone_is_half_as_large_and_stays_int4(tmp_path: Path) -> None:
    source = write_small(tmp_path / "source")
    int8 = quantize(source, tmp_path / "int8", say=silent)
    int4 = quantize(source, tmp_path / "int4", is_int4=True, say=silent)
    assert int4.made.bytes < 0.7 * int8.made.bytes
    assert list(int4.cosines) == ["int4"]
    strata, _ = load_encoder(str(tmp_path / "int4"))
    grid = find_grid(strata.get_submodule("layers.0.up"))
    assert grid is not None
    assert grid.scheme == "w4g64"
    again = quantize(str(tmp_path / "int4"), tmp_path / "again", say=silent)
    for folder in ("int4", "again"):
        member = read_member(tmp_path / folder)
        assert member is not None
        assert member.schemes["layers.0.up"] == "w4g64"
    assert list(again.cosines) == ["int4"]
