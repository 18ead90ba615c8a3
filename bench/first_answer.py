"""Measures the time from the command `lifelong demo` to its first answer, which includes starting everything."""

from collections.abc import Iterator

from bench.fixtures import Fixtures
from evals.results.row import Goal, Row


def measure(fixtures: Fixtures) -> Iterator[Row]:
    yield Row.of(name="first_answer", value=fixtures.demo.first_answer_s, unit="s", goal=Goal("<=", 45))
