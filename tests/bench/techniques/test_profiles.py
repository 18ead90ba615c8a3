"""Checks the speed and the size in row E11; `tests/bench/harness/test_cases.py` runs the row."""

from bench.harness.case import Case
from bench.techniques.profiles import TECHNIQUE, measure, speed_and_size
from model.config import StrataConfig
from model.weights import encoder_tensors
from tests.bench.harness.two import make_run
from tests.lifelong.compress.members import dense_strata

RUN = make_run(Case.for_ledger("E11", measure, TECHNIQUE), is_quick=True)


def test_the_bytes_are_the_bytes_of_the_stored_tensors() -> None:
    config = StrataConfig(vocab=3_000, d_model=128, n_layers=1, n_heads=4, d_ff=128, max_pos=40)
    strata = dense_strata(config)
    found = {row.name.removeprefix("E11."): row.calls[0].value for row in speed_and_size(strata, RUN)}
    stored = sum(len(tensor.to_blob()) for tensor in encoder_tensors(strata).values())
    assert found["nano_bytes"] == round(stored / 1e6, 2) > 0
    assert found["nano_rate"] is not None
    assert found["nano_rate"] > 30
