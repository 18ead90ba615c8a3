"""Checks the rows of the encoder."""

import pytest

from bench.encoder import GOALS, MachineLimits, _floor, _int4, _rows
from bench.harness.process import PeerFailed
from bench.peers.race import Race, Turn
from bench.peers.workloads import NATURAL, ONE_SHORT, WORKLOADS
from tests.bench.peers.test_race import breaking, entry

LIMITS = MachineLimits(peak_per_s=1e6, peak_of="our own layer", read_ms=2.0)


def test_every_work_has_its_goals() -> None:
    assert set(GOALS) == set(WORKLOADS)


def test_ours_is_compared_with_the_fastest_and_the_accurate() -> None:
    race = Race(ONE_SHORT, entry("ours", 1.0, 0.9995), (entry("fast", 1.9, 0.99), entry("exact", 3.0, 1.0)))
    race.run()
    fastest, accurate = _rows(race, "encoder.1x16", missing=(), note="left out: x")
    assert (fastest.calls[0].value, fastest.calls[0].ratio, fastest.met) == (1000, 1.9, True)
    assert [peer.name for peer in fastest.calls[0].peers] == ["fast", "exact"]
    assert fastest.calls[0].note == "left out: x"
    assert (accurate.name, accurate.calls[0].ratio, accurate.met) == ("encoder.1x16.accurate", 3.0, None)


def test_a_goal_is_not_judged_if_a_peer_is_missing() -> None:
    race = Race(ONE_SHORT, entry("ours", 1.0, 0.9995), (entry("fast", 1.9, 0.99),))
    race.run()
    fastest, _ = _rows(race, "x", missing=("OpenVINO static",), note="")
    assert (fastest.calls[0].gaps.missing, fastest.met) == (("OpenVINO static",), None)


def test_a_goal_is_not_judged_if_the_search_of_a_peer_was_not_finished() -> None:
    race = Race(ONE_SHORT, entry("ours", 1.0, 0.9995), (entry("fast", 1.9, 0.99, is_whole=False),))
    race.run()
    fastest, _ = _rows(race, "x", missing=(), note="")
    assert (fastest.calls[0].gaps.unfinished, fastest.met) == (("fast",), None)


def test_int4_is_compared_with_int8() -> None:
    row = _int4(Race(ONE_SHORT, entry("ours INT8", 10.0, 1.0), (entry("ours INT4", 11.0, 1.0),)))
    assert (row.name, row.calls[0].value, row.met) == ("encoder.int4.1x16", 1.1, True)


@pytest.mark.parametrize("num_turns", [0, 1, 3])
def test_int4_that_breaks_has_no_row(num_turns: int) -> None:
    turns = (Turn(ms=5, best_ms=5, busy_ms=5),) * num_turns
    race = Race(ONE_SHORT, entry("ours INT8", 10.0, 1.0), (breaking("ours INT4", *turns),))
    with pytest.raises(PeerFailed, match="ours INT4 broke at 1x16: it ended with -11"):
        _int4(race)


def test_the_floor_is_the_longer_of_multiplying_and_reading_and_says_which() -> None:
    race = Race(ONE_SHORT, entry("ours", 4.0, 0.9995), ())
    race.run()
    floors = []
    for operations in (1000, 3000):
        race.ours.operations = operations
        floors.append(_floor(race, "x", LIMITS))
    assert [(row.calls[0].value, row.met) for row in floors] == [(50, False), (75, True)]
    limits = ["the limit: reading all matrices", "the limit: our own layer"]
    assert [row.calls[0].note for row in floors] == limits


def test_without_peers_a_goal_against_them_is_neither_met_nor_missed() -> None:
    race = Race(NATURAL, entry("ours", 40, 0.9985), ())
    race.run()
    for row in _rows(race, "x", missing=(), note=""):
        assert (row.calls[0].peers, row.met) == ((), None)
