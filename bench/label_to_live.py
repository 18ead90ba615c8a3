"""From a label to the first answer that knows it, while the demo learns CLINC150 domain by domain."""

from collections.abc import Iterator

from bench.row import Goal, Row
from bench.supply import Supply


def measure(supply: Supply) -> Iterator[Row]:
    found = supply.demo.figures["label_to_live_s"]
    yield Row(name="label_to_live.p50", value=found["p50"], unit="s", goal=Goal("<=", 5))
    yield Row(name="label_to_live.p95", value=found["p95"], unit="s")
    yield Row(name="label_to_live.stable_p50", value=found["stable_p50"], unit="s")
