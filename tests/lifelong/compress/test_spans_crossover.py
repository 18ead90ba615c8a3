"""The length from which on a span is faster than all keys."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import native
from lifelong.compress import spans as module
from lifelong.compress.spans import LENGTHS, crossover, with_crossover
from model.config import MINILM_L6, Span
from tests.required import missing

ROUTED = Span(kind="topk", window=64, sinks=4, topk=4)


@given(st.lists(st.booleans(), min_size=1, max_size=len(LENGTHS)))
def test_the_span_is_faster_from_the_crossover_on_and_not_just_below(is_faster: list[bool]) -> None:
    lengths = LENGTHS[: len(is_faster)]
    found = crossover(lengths, is_faster)
    assert all(faster for length, faster in zip(lengths, is_faster, strict=True) if length >= found)
    below = [faster for length, faster in zip(lengths, is_faster, strict=True) if length < found]
    assert not below or not below[-1]


def test_only_lengths_that_the_encoder_reads_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    if reasons := native.why_unavailable():
        missing("compiler", "; ".join(reasons))
    monkeypatch.setattr(module, "BUDGET_S", 0.01)
    found = with_crossover(ROUTED, MINILM_L6)
    assert found == replace(ROUTED, dense_below=found.dense_below)
    assert found.dense_below in {length for length in LENGTHS if length <= MINILM_L6.max_sequence} | {513}


def test_a_span_with_a_crossover_or_with_every_key_does_not_change() -> None:
    given_span = replace(ROUTED, dense_below=100)
    assert with_crossover(given_span, MINILM_L6) is given_span
    full = Span(kind="full")
    assert with_crossover(full, MINILM_L6) is full


def test_without_native_kernels_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "why_unavailable", lambda: ["no compiler"])
    assert with_crossover(ROUTED, MINILM_L6) is ROUTED
