"""Tests the commands that change an encoder by arithmetic."""

from dataclasses import replace
from pathlib import Path

import pytest

from model.bert import load_encoder
from model.config import Span
from model.errors import WrongConfig
from model.member import read_member
from services.members.change import (
    ConvertOptions,
    PruneOptions,
    ShareOptions,
    convert,
    export,
    remove_heads,
    tie,
)
from tests.lifelong.compress.members import largest_difference
from tests.services.members.small import write_lines, write_small


def silent(_: str) -> None:
    """Shows nothing."""


def list_steps(folder: Path) -> list[str]:
    member = read_member(folder)
    assert member is not None
    return [str(step["step"]) for step in member.history]


def test_convert_narrows_groups_and_gives_spans(tmp_path: Path) -> None:
    source = write_small(tmp_path / "source")
    span = Span(kind="local", window=2)
    options = ConvertOptions(
        kv_heads=2, embed_dim=16, spans=(span,), enough=0.5, texts=(write_lines(tmp_path / "lines"),)
    )
    made = convert(source, tmp_path / "out", options, data=None, say=silent)
    assert made.saved > 0.1
    strata, tokenizer = load_encoder(str(tmp_path / "out"))
    assert strata.config.embed_dim == 16
    assert strata.config.layer(0).kv_heads == 2
    assert strata.config.spans == (Span(kind="full"), span)
    assert tokenizer.max_tokens == 24
    assert list_steps(tmp_path / "out") == ["convert"]


def test_convert_repeats_positions_for_long_texts(tmp_path: Path) -> None:
    source = write_small(tmp_path / "source")
    made = convert(source, tmp_path / "out", ConvertOptions(positions=200), data=None, say=silent)
    assert made.cosine == pytest.approx(1)
    strata, tokenizer = load_encoder(made.path)
    assert strata.config.max_sequence == tokenizer.max_tokens == 200
    assert len(tokenizer.encode_many(["play the song " * 100])[0]) == 200
    routed = Span(kind="topk", window=2, block=8, topk=2)
    made = convert(source, tmp_path / "routed", ConvertOptions(positions=200, spans=(routed,)), data=None, say=silent)
    given = load_encoder(made.path)[0].config.spans
    assert given == (replace(routed, dense_below=load_encoder(source)[0].config.max_sequence + 1),)
    with pytest.raises(WrongConfig, match="name one --span"):
        convert(source, tmp_path / "no", ConvertOptions(positions=200, spans=(routed, routed)), data=None, say=silent)


def test_share_then_prune_then_export_is_a_plain_encoder_again(tmp_path: Path) -> None:
    source = write_small(tmp_path / "source")
    shared = tie(source, tmp_path / "shared", ShareOptions(attention="aabb", ffn="abab", rank=128), say=silent)
    assert shared.cosine == pytest.approx(1, abs=1e-5)
    options = PruneOptions(share=0.5, tasks=(write_lines(tmp_path / "lines"),))
    pruned = remove_heads(shared.path, tmp_path / "pruned", options, data=None, say=silent)
    assert pruned.saved > 0
    assert list_steps(tmp_path / "pruned") == ["share", "prune"]
    plain = export(pruned.path, tmp_path / "plain", say=silent)
    assert plain.cosine == pytest.approx(1, abs=1e-5)
    assert largest_difference(load_encoder(pruned.path)[0], load_encoder(plain.path)[0]) < 1e-5


def test_what_exists_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(WrongConfig, match="exists"):
        export("nothing-of-the-sort", tmp_path, say=silent)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_that_is_none_is_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(WrongConfig, match="between 0 and 1"):
        remove_heads("minilm-l6", tmp_path / "out", PruneOptions(share=share), data=None, say=silent)
