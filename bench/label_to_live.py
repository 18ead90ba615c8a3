"""Measures the time from a label to the first answer by weights that learnt it, while the demo learns CLINC150.

The goal is that of the stable arm, which most of the traffic sees. The first answer of any arm comes earlier.
"""

from collections.abc import Iterator

from bench.fixtures import Fixtures
from evals.results.row import Goal, Row


def measure(fixtures: Fixtures) -> Iterator[Row]:
    seconds = fixtures.demo.figures["label_to_live_s"]
    yield Row.of(name="label_to_live.p50", value=seconds["p50"], unit="s, any arm")
    yield Row.of(name="label_to_live.p95", value=seconds["p95"], unit="s, any arm")
    yield Row.of(name="label_to_live.stable_p50", value=seconds["stable_p50"], unit="s", goal=Goal("<=", 5))
