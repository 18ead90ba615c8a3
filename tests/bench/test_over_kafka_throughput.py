"""Checks which loops our throughput is compared with."""

from typing import Any

from bench.over_kafka import LOOPS, _loop, loops_row
from bench.peers.engines import PEERS
from bench.peers.field import NO_TIME
from bench.peers.kafka_loop import UNPADDED
from evals.results.row import Peer

GOAL = ">= 2x"
WHOLE: dict[str, Any] = {"events_per_s": 400.04, "how": "whole", "is_whole": True}


def test_the_fastest_loop_comes_first_and_missing_loops_are_named() -> None:
    measured = {
        "a": WHOLE,
        "b": {"missing": "no b"},
        "c": {"events_per_s": 900.0, "how": "in 8s", "is_whole": True},
        "d": {"left_out": "emulated"},
    }
    row = loops_row(2000.0, GOAL, measured)
    (call,) = row.calls
    assert call.peers == (Peer("c", 900.0), Peer("a", 400.0))
    assert call.gaps.missing == ("b",)
    assert call.note == "a: whole; c: in 8s; left out: d (emulated)"
    assert row.met is None


def test_the_goal_is_judged_if_every_loop_has_its_best_settings() -> None:
    assert loops_row(2000.0, GOAL, {"a": WHOLE}).met is True
    row = loops_row(2000.0, GOAL, {"a": WHOLE | {"is_whole": False}})
    assert (row.calls[0].gaps.unfinished, row.met) == (("a",), None)


def test_every_loop_has_an_encoder() -> None:
    assert set(LOOPS) <= {UNPADDED, *PEERS}


def test_a_loop_for_which_no_time_is_left_is_missing() -> None:
    measured = {"a": WHOLE, "b": _loop(UNPADDED, "localhost:1", limit_s=-1.0)}
    assert measured["b"] == {"missing": NO_TIME}
    row = loops_row(2000.0, GOAL, measured)
    assert (row.calls[0].gaps.missing, row.met) == (("b",), None)
