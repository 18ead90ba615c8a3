"""Runs experiments of the ledger, each with every seed, and makes a line of each of their rows.

experiments --measure(a run with a seed)--> figures --> rows, shown as they come --> after the last seed: lines
                           figures and conditions of a seed that has ended <--> measured.py

The calls of a row are its seeds, from 0 on: a bar is met where every seed meets it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from evals.ledger.experiment import SEEDS, Experiment, Figure, SeedRun
from evals.ledger.measured import MeasuredSeed, MeasuredSeeds
from evals.results.conditions import ConditionsWatch
from evals.results.row import NoResult, Skip
from evals.results.rows import ResultLine, RowsByCall, Surroundings, line


def run_all(
    experiments: Sequence[Experiment],
    *,
    is_quick: bool,
    data: Path | None,
    surroundings: Surroundings,
    say: Callable[[str], None],
    measured: MeasuredSeeds | None = None,
    num_seeds: int = SEEDS,
) -> Iterator[ResultLine]:
    """Yields the lines of each experiment after its last seed; what cannot run here has none, and `say` tells why.

    Seeds that are among `measured` are not measured again.
    """
    measured = measured or MeasuredSeeds(None, surroundings)
    for experiment in experiments:
        rows = RowsByCall(experiment.id, surroundings)
        for seed in range(1 if is_quick else num_seeds):
            run = SeedRun(seed=seed, is_quick=is_quick, data=data, say=say)
            start_s = time.monotonic()
            if known := measured.read(experiment.id, seed):
                _repeat(experiment, run, rows, known)
                continue
            try:
                ended = _measure(experiment, run, rows)
            except Skip as why:
                say(f"{experiment.id} is not run: {why}")
                break
            if ended:
                measured.write(experiment.id, seed, ended)
            say(f"{experiment.id}, seed {seed}, took {time.monotonic() - start_s:.0f} s")
        else:
            yield from rows.lines()


def _measure(experiment: Experiment, run: SeedRun, rows: RowsByCall) -> MeasuredSeed | None:
    """Measures a seed and adds its figures to the rows; returns None after a failure, which the rows then say."""
    figures: list[Figure] = []
    failure = ""
    watch = ConditionsWatch()
    try:
        with watch:
            for figure in experiment.measure(run):
                figures.append(figure)
                _add(experiment, run, rows, figure)
    except NoResult as why:
        failure = str(why)
    for row in rows.end_call(failure, conditions=watch.conditions):
        run.say(line(row))
    return None if failure else MeasuredSeed(tuple(figures), watch.conditions)


def _repeat(experiment: Experiment, run: SeedRun, rows: RowsByCall, known: MeasuredSeed) -> None:
    """Adds the figures of a seed that was measured before to the rows."""
    for figure in known.figures:
        _add(experiment, run, rows, figure)
    rows.end_call(conditions=known.conditions)


def _add(experiment: Experiment, run: SeedRun, rows: RowsByCall, figure: Figure) -> None:
    run.say(line(rows.add(experiment.row_of(figure, is_quick=run.is_quick))))
