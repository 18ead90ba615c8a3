"""The weights as they are served, in a folder."""

from pathlib import Path

import torch

from model.bert import load_encoder
from model.member import WEIGHTS, read_member, read_stored
from services.members.stored import quantize
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
