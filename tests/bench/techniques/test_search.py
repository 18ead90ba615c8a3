"""Checks how row E15 chooses encoders; `tests/bench/harness/test_cases.py` runs the row."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.techniques.search import _chosen, _highest
from evals.results.row import NoResult
from services.members.search import Search, SearchOptions
from tests.services.members.small import write_small
from tests.services.members.test_search import write_task

OPTIONS = SearchOptions(stored=0.8, budget=6, steps=2, batch=4, max_texts=30, checked=4, check_steps=1, retrain_steps=2)


def test_the_chosen_encoder_is_the_best_of_those_that_were_retrained(tmp_path: Path) -> None:
    options = replace(OPTIONS, source=write_small(tmp_path / "source"), tasks=(write_task(tmp_path / "task"),))
    search = Search(options, data=None, state_dir=tmp_path, say=print)
    search.run()
    best = _highest(search.evaluated, 3)
    assert [point.score for point in best] == sorted((point.score for point in search.evaluated), reverse=True)[:3]
    chosen = _chosen(search, search.evaluated)
    trained = [search.train(point.genes) for point in best]
    assert chosen in trained
    assert chosen.accuracy == max(each.accuracy for each in trained)


def test_a_search_without_encoders_is_no_result() -> None:
    with pytest.raises(NoResult, match="no encoder"):
        _highest([], 3)
