"""The most that all processes of the demo use together, shared pages counted once."""

from collections.abc import Iterator

from bench.row import Goal, Row
from bench.supply import Supply


def measure(supply: Supply) -> Iterator[Row]:
    yield Row(name="memory", value=round(supply.demo.peak_bytes / 2**30, 2), unit="GiB", goal=Goal("<=", 4))
