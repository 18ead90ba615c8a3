"""Measures the time from a label to the first answer by weights that learned it, while the demo learns CLINC150."""

from collections.abc import Iterator

from bench.fixtures import Fixtures
from bench.row import Goal, Row


def measure(fixtures: Fixtures) -> Iterator[Row]:
    seconds = fixtures.demo.figures["label_to_live_s"]
    yield Row(name="label_to_live.p50", value=seconds["p50"], unit="s", goal=Goal("<=", 5))
    yield Row(name="label_to_live.p95", value=seconds["p95"], unit="s")
    yield Row(name="label_to_live.stable_p50", value=seconds["stable_p50"], unit="s")
