"""Measures the cost of quantization: the served encoder against full precision, on CLINC150's test texts."""

from collections.abc import Iterator

from bench.fixtures import Fixtures
from bench.process import run_module
from bench.texts import clinc150
from evals.results.row import Goal, Row

MAX_LOSS = {"int8": 0.2, "int4": 0.5}
"""The points of accuracy that a precision may lose to full precision."""


def measure(fixtures: Fixtures) -> Iterator[Row]:
    clinc150()  # raises Skip here, where it is caught; the program below would fail
    fixtures.stop_service()
    measured = run_module("bench.peers.precisions")
    int8 = measured["int8"]
    int4 = measured["int4"]
    yield Row.of(name="precision.int8_cosine_mean", value=round(int8["mean"], 5), unit="", goal=Goal(">=", 0.998))
    yield Row.of(name="precision.int8_cosine_min", value=round(int8["min"], 4), unit="", goal=Goal(">=", 0.99))
    yield Row.of(name="precision.int4_cosine_mean", value=round(int4["mean"], 5), unit="")
    yield Row.of(name="precision.fp32_accuracy", value=round(measured["fp32"]["accuracy"], 2), unit="%")
    for name, most in MAX_LOSS.items():
        loss = round(measured["fp32"]["accuracy"] - measured[name]["accuracy"], 2)
        yield Row.of(name=f"precision.{name}_accuracy_loss", value=loss, unit="points", goal=Goal("<=", most))
