"""The times of the precisions, measured by a clock that the encoder moves."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.ragged import RaggedBatch
from serving.models import LatencyTable
from serving.weights.in_use import measure

US_PER_TOKEN = {"int8": 20, "int4": 15}


class Machine:
    """An encoder that takes time for each token, and the clock that shows it."""

    def __init__(self, *, slowness: int = 1) -> None:
        self.now_s = 0.0
        self.calls: list[tuple[int, str]] = []
        self._slowness = slowness

    def encode(self, batch: RaggedBatch, precision: str) -> None:
        num_tokens = batch.layout.num_tokens
        self.calls.append((num_tokens, precision))
        self.now_s += self._slowness * num_tokens * US_PER_TOKEN[precision] / 1e6

    def measure(self, budget_s: float) -> LatencyTable:
        return measure(self.encode, tuple(US_PER_TOKEN), vocab=1_000, budget_s=budget_s, clock=lambda: self.now_s)


def test_every_size_is_measured_in_every_precision() -> None:
    table = Machine().measure(budget_s=1.0)
    assert table.num_tokens == (16, 64, 256, 1_024)
    for precision, us in US_PER_TOKEN.items():
        assert table.ms[precision] == pytest.approx([num * us / 1e3 for num in table.num_tokens])


def test_the_precisions_take_turns() -> None:
    machine = Machine()
    machine.measure(budget_s=1.0)
    assert machine.calls[:4] == [(16, "int8"), (16, "int4")] * 2


def test_the_time_that_a_thread_waits_for_the_processor_does_not_count() -> None:
    def encode(_: RaggedBatch, precision: str) -> None:
        time.sleep(0.05 if precision == "int8" else 0)

    table = measure(encode, ("int8", "int4"), vocab=1_000)
    assert max(table.ms["int8"]) < 25


@given(st.integers(1, 10_000), st.floats(0.01, 1.0))
def test_the_budget_holds_whatever_the_machine(slowness: int, budget_s: float) -> None:
    machine = Machine(slowness=slowness)
    table = machine.measure(budget_s=budget_s)
    smallest_s = sum(us * 16 * 3 * slowness / 1e6 for us in US_PER_TOKEN.values())
    assert machine.now_s <= max(budget_s, smallest_s) * (1 + 1e-6)
    assert table.num_tokens[0] == 16


@given(st.lists(st.floats(0.01, 100), min_size=3, max_size=3), st.integers(1, 2_000))
def test_a_latency_lies_between_its_neighbours(ms: list[float], num_tokens: int) -> None:
    latency_ms = LatencyTable((16, 64, 256), {"int8": tuple(ms)}).batch_ms("int8", num_tokens)
    if num_tokens <= 256:
        assert min(ms) * (1 - 1e-9) <= latency_ms <= max(ms) * (1 + 1e-9)
    else:
        assert latency_ms == pytest.approx(ms[-1] * num_tokens / 256)
