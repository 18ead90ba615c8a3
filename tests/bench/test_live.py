"""The rows of live learning."""

from dataclasses import replace

import pytest

from bench.live import rows
from evals.results.row import NoResult
from tests.evals.load.examples import FIGURES


def test_rows_are_named_by_their_rate_and_have_its_goals() -> None:
    full = {row.name: row for row in rows(FIGURES, "200", 0.9, at_full_rate=True)}
    slow = {row.name: row for row in rows(FIGURES, "20", 1.0, at_full_rate=False)}
    assert len(full) == len(slow) == 14
    assert (full["prequential.ratio.200"].goal, slow["prequential.ratio.20"].goal) == (">= 0.9", ">= 1")
    assert full["prequential.ratio.200"].met is False
    assert full["publish.p95.200"].met is True
    # A label that never came live misses the goal.
    assert full["live.stable_p95.200"].met is False
    assert slow["publish.p95.20"].goal is None


def test_a_run_without_labels_has_no_result() -> None:
    with pytest.raises(NoResult, match="no label"):
        list(rows(replace(FIGURES, prequential=None), "200", None, at_full_rate=True))
