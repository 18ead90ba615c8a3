"""`lifelong model ...`."""

import json
from pathlib import Path

from tests.services.command_line import lifelong
from tests.services.members.small import write_lines, write_small


def test_show_counts_what_an_encoder_costs() -> None:
    done = lifelong("model", "show", "minilm-l6", "--tokens", "1024", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["parameters"]["total"] == 22_565_376
    assert list(facts["flops"]) == ["1024"]


def test_show_refuses_what_is_no_encoder() -> None:
    done = lifelong("model", "show", "nothing-of-the-sort")
    assert done.returncode == 78
    assert "nothing-of-the-sort" in done.stderr


def test_each_command_starts_from_what_another_has_made(tmp_path: Path) -> None:
    source = write_small(tmp_path / "source")
    lines = write_lines(tmp_path / "lines")
    out = [str(tmp_path / name) for name in ("narrow", "tied", "small", "fewer", "stored", "plain")]
    narrow, tied, small, fewer, stored, plain = out
    for words in (
        ("convert", source, narrow, "--kv-heads", "2", "--embed-dim", "16", "--texts", lines),
        ("share", narrow, tied, "--attention", "aabb", "--ffn", "aabb", "--rank", "4"),
        ("distill", tied, small, "--teacher", source, "--texts", lines, "--steps", "4", "--batch", "2"),
        ("prune", small, fewer, "--share", "0.3", "--task", lines),
        ("export", fewer, plain),
        ("quantize", plain, stored),
    ):
        done = lifelong("model", *words, "--json")
        assert done.returncode == 0, done.stderr
        made = json.loads(done.stdout)
        assert made["path"] == words[2]
        assert -1 <= made["cosine"] <= 1.001
    history = json.loads((Path(stored) / "config.json").read_text())["history"]
    assert [step["step"] for step in history] == ["published", "quantize"]  # a published encoder carries no history


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    done = lifelong("model", "export", "minilm-l6", str(tmp_path))
    assert done.returncode == 78
    assert "exists" in done.stderr
