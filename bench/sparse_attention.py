"""Times attention to some of the keys by itself: how often as fast as full attention, and how it grows with a text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.fixtures import Fixtures
from bench.process import run_module
from evals.ledger.span_speed import slope
from evals.results.row import Goal, Peer, Row

GOALS = {4096: Goal(">=", 10, of_peer=True), 8192: Goal(">=", 20, of_peer=True)}
SLOPE = Goal("<=", 1.15)


def measure(fixtures: Fixtures) -> Iterator[Row]:
    fixtures.stop_service()
    yield from rows_of(run_module("bench.peers.span_speed"))


def rows_of(measured: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """Yields a row for each length, and the slope of the time over the length, both as logarithms: 1 is linear."""
    for each in measured:
        length = each["length"]
        ours, *peers = (Peer(name, round(1e3 * length / ms)) for name, ms in each["ms"].items())
        name = f"sparse_attention.{length}"
        yield Row.of(name=name, value=ours.value, unit="tokens/s", goal=GOALS.get(length), peers=tuple(peers))
    steepness = round(slope({each["length"]: each["ms"]["ours"] for each in measured}), 3)
    yield Row.of(name="sparse_attention.slope", value=steepness, unit="log ms / log tokens", goal=SLOPE)
