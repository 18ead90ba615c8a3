"""Measures the most memory that all processes of the demo use together, shared pages counted once."""

from collections.abc import Iterator

from bench.fixtures import Fixtures
from evals.results.row import Goal, Row


def measure(fixtures: Fixtures) -> Iterator[Row]:
    yield Row.of(name="memory", value=round(fixtures.demo.peak_bytes / 2**30, 2), unit="GiB", goal=Goal("<=", 4))
