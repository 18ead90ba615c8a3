"""From the command `lifelong demo` to its first answer, everything started on the way."""

from collections.abc import Iterator

from bench.row import Goal, Row
from bench.supply import Supply


def measure(supply: Supply) -> Iterator[Row]:
    yield Row(name="first_answer", value=supply.demo.first_answer_s, unit="s", goal=Goal("<=", 45))
