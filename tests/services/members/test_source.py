"""Tests the source of a command, and the folder that it writes."""

import json
from pathlib import Path

import pytest

from lifelong.compress.reshape import pool_kv_heads
from services.members.source import mean_cosine, open_source, require_free, write
from tests.services.members.small import CONFIG, write_small


def test_the_result_remembers_how_it_was_made(tmp_path: Path) -> None:
    source = open_source(write_small(tmp_path / "source"))
    made = write(source, pool_kv_heads(source.strata, 2), tmp_path / "out", "convert", {"kv_heads": 2})
    history = json.loads((tmp_path / "out" / "config.json").read_text())["history"]
    assert [(step["step"], step["kv_heads"]) for step in history] == [("convert", 2)]
    assert 0 < made.saved < 1
    assert made.fields()["cosine"] == made.cosine < 1
    assert any("fewer than its source" in line for line in made.lines())


def test_an_encoder_is_as_near_as_can_be_to_itself(tmp_path: Path) -> None:
    source = open_source(write_small(tmp_path / "source"))
    assert source.strata.config == CONFIG
    assert mean_cosine(source, source.strata) == pytest.approx(1)


def test_a_free_name_is_no_error(tmp_path: Path) -> None:
    require_free(tmp_path / "free")
