"""Checks which encoders take part in a race, and the reasons given for the others."""

import time
from pathlib import Path

import pytest

from bench.peers.engines import OURS
from bench.peers.field import NO_TIME, Field, prepare_all, running_encoders
from bench.peers.workloads import ONE_SHORT


def test_peers_that_are_left_out_are_named_with_the_reason() -> None:
    assert Field({}, {}, {}).note == ""
    assert Field({}, {}, {"torch bf16": "emulated"}).note == "left out: torch bf16 (emulated)"


def test_a_peer_that_is_not_installed_is_missing_with_the_command_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openvino.py").write_text("raise ImportError('no OpenVINO')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    said: list[str] = []
    with running_encoders(("OpenVINO static",), 1, said.append) as field:
        assert not field.runners
        assert list(field.missing) == ["OpenVINO static"]
    assert said[-1].startswith("encoder: OpenVINO static: missing: ")
    assert said[-1].endswith("; pip install 'lifelong[bench]'")


def test_after_the_deadline_no_peer_is_started_and_ours_takes_part() -> None:
    said: list[str] = []
    with running_encoders((OURS, "torch fp32"), 1, said.append, deadline_s=time.monotonic()) as field:
        assert list(field.runners) == [OURS]
    assert field.missing == {"torch fp32": NO_TIME}
    assert said[0] == f"encoder: {NO_TIME}"


def test_a_peer_that_is_not_prepared_by_the_deadline_is_out_of_this_race() -> None:
    said: list[str] = []
    with running_encoders((OURS, "torch fp32"), 1, said.append) as field:
        late = Field(field.runners, {}, {}, deadline_s=time.monotonic())
        entries, broken = prepare_all(late, ONE_SHORT, said.append)
        assert list(entries) == [OURS]
        assert broken == ["torch fp32"]
        assert said[-1] == f"encoder: 1x16: {NO_TIME}"
        entries, broken = prepare_all(field, ONE_SHORT, said.append)
        assert list(entries) == [OURS, "torch fp32"], "it is there in the next race"
        assert broken == []
