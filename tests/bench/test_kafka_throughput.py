"""Checks which of the loops ours is held against."""

from typing import Any

from bench.kafka_throughput import LOOPS, ranked
from bench.peers.engines import PEERS
from bench.peers.kafka_loop import UNPADDED
from bench.row import Peer


def test_the_fastest_loop_comes_first_and_who_did_not_run_is_named() -> None:
    measured: dict[str, dict[str, Any]] = {
        "a": {"events_per_s": 400.04, "how": "whole"},
        "b": {"missing": "no b"},
        "c": {"events_per_s": 900.0, "how": "in 8s"},
    }
    assert ranked(measured) == ((Peer("c", 900.0), Peer("a", 400.0)), ("b",))


def test_every_loop_has_an_encoder() -> None:
    assert set(LOOPS) <= {UNPADDED, *PEERS}
