"""Measures how fast the learner learns: a label into the fast head on one core, samples of a slow step on two."""

from collections.abc import Iterator

from bench.fixtures import Fixtures
from bench.process import run_module
from bench.texts import clinc150
from evals.results.row import Goal, Peer, Row


def measure(fixtures: Fixtures) -> Iterator[Row]:
    clinc150()  # raises Skip here, where it is caught; the program below would fail
    fixtures.stop_service()
    measured = run_module("bench.peers.learner_speed")
    yield Row.of(name="learner_pace.fast_update", value=measured["fast_ms"], unit="ms/label", goal=Goal("<=", 2.0))
    yield Row.of(name="learner_pace.solve", value=measured["solve_ms"], unit="ms/version")
    yield Row.of(
        name="learner_pace.slow_update",
        value=measured["slow_per_s"],
        unit="samples/s",
        goal=Goal(">=", 150.0),
    )
    yield Row.of(
        name="learner_pace.slow_step",
        value=measured["slow_per_s"],
        unit="samples/s",
        peers=(Peer("all blocks trained", measured["full_per_s"]),),
        goal=Goal(">=", 2.0, of_peer=True),
    )
