"""Checks what row E1 counts and reads; `test_register.py` runs the row."""

from pathlib import Path

import pytest

from evals.ledger.sparse_attention import contracts, measure
from evals.results.row import Skip
from tests.evals.ledger.test_experiment import run


def test_what_is_counted_comes_first_and_is_below_the_bar() -> None:
    figure = next(measure(run(is_quick=True)))
    assert figure.bar == "attention_flops" and figure.value is not None
    assert 10 < figure.value < 28


def test_without_the_contracts_nothing_is_compared() -> None:
    with pytest.raises(Skip, match="cuad"):
        contracts(Path("/no such folder"))
