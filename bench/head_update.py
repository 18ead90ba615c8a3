"""Measures how fast labels reach the weights of the head: 20 labels at 150 and at 10,000 classes, on one core."""

from collections.abc import Iterator

from bench.fixtures import Fixtures
from bench.process import run_module
from evals.results.row import Goal, Peer, Row

GOAL_MS = {150: 12, 10_000: 60}
"""The most milliseconds for 20 labels, by the number of classes."""


def measure(fixtures: Fixtures) -> Iterator[Row]:
    fixtures.stop_service()
    for num_classes, goal_ms in GOAL_MS.items():
        measured = run_module("bench.peers.head_speed", str(num_classes))
        name = f"head_update.{num_classes}_classes"
        yield Row.of(
            name=name,
            value=measured["update_ms"],
            unit="ms/20 labels",
            goal=Goal("<=", goal_ms),
        )
        solve = Peer("the whole solve", round(1e3 / measured["solve_ms"], 2))
        per_s = round(1e3 / measured["update_ms"], 1)
        yield Row.of(name=f"{name}.per_second", value=per_s, unit="updates/s", peers=(solve,))
        yield Row.of(
            name=f"{name}.floor",
            value=measured["percent_of_limit"],
            unit="% of the limit",
            note=f"the limit: {measured['limit']}",
        )
