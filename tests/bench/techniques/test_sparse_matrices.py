"""Checks the parts of row E9; `tests/bench/harness/test_cases.py` runs the row."""

import pytest

from bench.harness.case import Run
from bench.harness.cases import CASES
from bench.sparse import DENSE, FLOAT, ONEDNN, OURS, SparseTimes
from bench.techniques import sparse_matrices
from bench.techniques.sparse_matrices import SHARE, STEPS


def timed(num_rows: int, ours: float) -> SparseTimes:
    return SparseTimes(1536, 384, num_rows, SHARE, {OURS: ours, DENSE: 30.0, FLOAT: 200.0, ONEDNN: 100.0})


def test_the_slowest_matrix_and_the_fastest_peer_count() -> None:
    case = next(case for case in CASES if case.name == "E9")
    run = Run(case=case, say=lambda _: None)
    row = sparse_matrices._ratio_row(run, "float32_80", [timed(64, 5.0), timed(128, 10.0)], FLOAT, ONEDNN)
    assert row.calls[0].value == pytest.approx(10.0)
    assert row.calls[0].note.startswith("at 128 rows of 1536 x 384: sparse INT8 10.0 us")
    assert row.met


def test_each_pruned_share_has_a_bar() -> None:
    case = next(case for case in CASES if case.name == "E9")
    names = [bar.name for bar in case.bars]
    assert all(f"loss_{100 * share:.0f}" in names for share in STEPS)
