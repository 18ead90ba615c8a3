"""Runs every experiment of the ledger for seconds: the mechanism works, and the direction is right."""

import pytest

from bench.techniques.experiment import Experiment
from bench.techniques.run import EXPERIMENTS, run_all
from bench.texts import data_folder
from tests.evals.results.test_rows_result_line import HERE
from tests.required import missing


def test_names_are_told_apart() -> None:
    assert [experiment.id for experiment in EXPERIMENTS] == ["E1", "E2", "E4", "E6", "E7", "E11", "E12", "E13"]
    for experiment in EXPERIMENTS:
        names = [bar.name for bar in experiment.bars]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.id)
def test_the_quick_run_reaches_what_it_must(experiment: Experiment) -> None:
    said: list[str] = []
    lines = list(run_all([experiment], is_quick=True, data=data_folder(), surroundings=HERE, say=said.append))
    if not lines and "is not run" in said[-1]:
        missing("ledger", said[-1])
    assert len(lines) == len({line.name for line in lines}) > 0
    assert not [(line.name, line.median, line.goal) for line in lines if line.met is False]
