"""Checks the counted operations of row E1; `tests/bench/harness/test_cases.py` runs the row."""

from bench.harness.case import Case
from bench.techniques.sparse_attention import TECHNIQUE, measure
from tests.bench.harness.two import make_run


def test_the_counted_operations_come_first_and_meet_the_bar() -> None:
    row = next(measure(make_run(Case.for_ledger("E1", measure, TECHNIQUE), is_quick=True)))
    assert row.name == "E1.attention_flops" and row.values is not None
    assert 10 < row.values.median < 28
