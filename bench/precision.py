"""What rounding costs: the served encoder against the same encoder in full precision, on CLINC150's test texts."""

from collections.abc import Iterator

from bench.process import measured
from bench.row import Goal, Row
from bench.supply import Supply
from bench.texts import clinc150

MAX_LOSS = {"int8": 0.2, "int4": 0.5}
"""Points of accuracy that a precision may lose to full precision."""


def measure(supply: Supply) -> Iterator[Row]:
    clinc150()  # raises Skip here, where it is understood
    supply.stop_service()
    found = measured("bench.peers.precisions")
    int8 = found["int8"]
    int4 = found["int4"]
    yield Row(name="precision.int8_cosine_mean", value=round(int8["mean"], 5), unit="", goal=Goal(">=", 0.998))
    yield Row(name="precision.int8_cosine_min", value=round(int8["min"], 4), unit="", goal=Goal(">=", 0.99))
    yield Row(name="precision.int4_cosine_mean", value=round(int4["mean"], 5), unit="")
    yield Row(name="precision.fp32_accuracy", value=round(found["fp32"]["accuracy"], 2), unit="%")
    for name, most in MAX_LOSS.items():
        loss = round(found["fp32"]["accuracy"] - found[name]["accuracy"], 2)
        yield Row(name=f"precision.{name}_accuracy_loss", value=loss, unit="points", goal=Goal("<=", most))
