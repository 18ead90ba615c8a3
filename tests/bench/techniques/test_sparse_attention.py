"""Checks what row E1 counts and reads; `test_run_register.py` runs the row."""

from bench.techniques.sparse_attention import measure
from tests.bench.techniques.test_experiment import run


def test_what_is_counted_comes_first_and_is_below_the_bar() -> None:
    figure = next(measure(run(is_quick=True)))
    assert figure.bar == "attention_flops" and figure.value is not None
    assert 10 < figure.value < 28
