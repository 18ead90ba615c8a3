"""Checks the rows of the encoder."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from bench.encoder import GOALS, MachineLimits, _rows, started
from bench.peers.race import Race
from bench.peers.workloads import NATURAL, ONE_SHORT, WORKLOADS
from tests.bench.peers.test_race import entry


def test_every_work_has_its_goals() -> None:
    assert set(GOALS) == set(WORKLOADS)


def test_ours_is_held_against_the_fastest_the_accurate_and_the_peak() -> None:
    race = Race(ONE_SHORT, entry("ours", 1.0, 0.9995), (entry("fast", 1.9, 0.99), entry("exact", 3.0, 1.0)))
    race.ours.operations = 800
    race.run()
    fastest, accurate, floor = _rows(race, "encoder.1x16", MachineLimits(peak_per_s=1e6, read_ms=0.7))
    assert (fastest.value, fastest.ratio, fastest.met) == (1000, 1.9, True)
    assert (accurate.name, accurate.ratio, accurate.met) == ("encoder.1x16.accurate", 3.0, None)
    assert (floor.value, floor.met) == (80, True)


def test_the_floor_is_the_longer_of_multiplying_and_reading() -> None:
    limits = MachineLimits(peak_per_s=1e6, read_ms=2.0)
    assert limits.floor_ms(1000) == 2.0
    assert limits.floor_ms(3000) == 3.0


def test_without_peers_a_goal_against_them_is_neither_met_nor_missed() -> None:
    race = Race(NATURAL, entry("ours", 40, 0.9985), ())
    race.run()
    fastest, accurate, floor = _rows(race, "x", MachineLimits(peak_per_s=1.0, read_ms=1.0))
    assert (fastest.peer, fastest.met) == (None, None)
    assert (accurate.peer, accurate.met) == (None, None)
    assert floor.met


def test_a_peer_that_is_not_installed_is_skipped_and_said_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openvino.py").write_text("raise ImportError('no OpenVINO')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    out = io.StringIO()
    with started(("OpenVINO bf16",), 1, Console(file=out, width=200)) as runners:
        assert not runners
    assert out.getvalue().startswith("encoder: OpenVINO bf16: skipped: ")
    assert out.getvalue().endswith("; pip install 'lifelong[bench]'\n")
