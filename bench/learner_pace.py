"""How fast the learner learns: a label into the fast head on one core, samples of a slow step on two."""

from collections.abc import Iterator

from bench.process import measured
from bench.row import Goal, Peer, Row
from bench.supply import Supply
from bench.texts import clinc150


def measure(supply: Supply) -> Iterator[Row]:
    clinc150()  # raises Skip here, where it is understood
    supply.stop_service()
    found = measured("bench.peers.pace")
    yield Row(name="learner_pace.fast_update", value=found["fast_ms"], unit="ms/label", goal=Goal("<=", 2.0))
    yield Row(name="learner_pace.solve", value=found["solve_ms"], unit="ms/version")
    yield Row(
        name="learner_pace.slow_update",
        value=found["slow_per_s"],
        unit="samples/s",
        goal=Goal(">=", 150.0),
    )
    yield Row(
        name="learner_pace.slow_step",
        value=found["slow_per_s"],
        unit="samples/s",
        peer=Peer("all blocks trained", found["full_per_s"]),
        goal=Goal(">=", 2.0, of_peer=True),
    )
