"""Folders of derived encoders (members): writing, reading, and files that are refused."""

import json
from pathlib import Path

import pytest

from lifelong.compress.share import share
from model.errors import BadBlob, WrongConfig, WrongShape
from model.member import CONFIG, WEIGHTS, Member, read_member, read_strata, write_member
from tests.lifelong.compress.members import DENSE, dense_strata, largest_difference


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    strata = share(dense_strata(), (0, 0, 2, 2), (0, 0, 2, 2), rank=4)
    member = Member(config=strata.config, max_tokens=32, history=({"step": "share", "rank": 4},))
    write_member(tmp_path / "small", member, strata, b"{}")
    return tmp_path / "small"


def test_a_folder_holds_the_encoder_and_how_it_was_made(folder: Path) -> None:
    member = read_member(folder)
    assert member is not None
    assert member.history == ({"step": "share", "rank": 4},)
    again = read_strata(folder, member)
    assert largest_difference(again, share(dense_strata(), (0, 0, 2, 2), (0, 0, 2, 2), rank=4)) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert [path.name for path in folder.parent.iterdir()] == ["small"]


def test_nothing_is_overwritten(folder: Path) -> None:
    with pytest.raises(FileExistsError, match="small exists"):
        write_member(folder, Member(config=DENSE, max_tokens=8), dense_strata(), b"")


def test_a_folder_of_another_format_is_none(tmp_path: Path) -> None:
    assert read_member(tmp_path) is None
    (tmp_path / CONFIG).write_text('{"model_type": "bert"}')
    assert read_member(tmp_path) is None
    (tmp_path / CONFIG).write_text("no JSON")
    assert read_member(tmp_path) is None


@pytest.mark.parametrize("field, value", [("config", {"vocab": 3}), ("max_tokens", 41), ("max_tokens", "x")])
def test_a_wrong_field_is_named(folder: Path, field: str, value: object) -> None:
    fields = json.loads((folder / CONFIG).read_text()) | {field: value}
    (folder / CONFIG).write_text(json.dumps(fields))
    with pytest.raises(WrongConfig, match=r"config\.json"):
        read_member(folder)


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    with pytest.raises(WrongShape, match=r"layers\.1\.up\.weight"):
        read_strata(folder, Member(config=DENSE, max_tokens=8))


def test_torn_weights_are_refused(folder: Path) -> None:
    member = read_member(folder)
    assert member is not None
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])
    with pytest.raises(BadBlob, match="small"):
        read_strata(folder, member)
