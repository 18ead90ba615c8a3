"""Runs the experiments, each with every seed, and makes a line of each of their rows.

experiments --measure(a run with a seed)--> figures --> rows, shown as they come --> after the last seed: lines
    MeasuredSeed, once it has ended --write--> FOLDER/COMMIT/ROW-SEED.json --read--> the same MeasuredSeed

The calls of a row are its seeds, from 0 on: a bar is met if every seed meets it. What each seed measured is kept, so
that a run that was stopped goes on with the seeds that are missing. Figures belong to a commit without changes and to a
machine. What ended without a result is not kept: it is tried again.

Rejected: figures of half a seed (what is shared between two bars would have to be kept, too).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from bench.techniques import (
    adaptive_precision,
    batching,
    head_pruning,
    layered_tuning,
    profiles,
    quantization,
    sharing,
    sparse_attention,
)
from bench.techniques.experiment import SEEDS, Experiment, Figure, SeedRun
from evals.results.conditions import Conditions, ConditionsWatch
from evals.results.row import NoResult, Skip
from evals.results.rows import ResultLine, RowsByCall, Surroundings, line
from wire.files import atomic_write


class MeasuredSeed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a seed measured, and what else ran on the machine."""

    figures: tuple[Figure, ...]
    conditions: Conditions | None


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is in a file."""

    machine: str
    seed: MeasuredSeed


class MeasuredSeeds:
    """The figures that were measured at one commit. Without a folder, or with changes in the tree, nothing is kept."""

    def __init__(self, folder: Path | None, surroundings: Surroundings) -> None:
        is_kept = folder is not None and not surroundings.commit.endswith("+")
        self._folder = folder / surroundings.commit if folder and is_kept else None
        self._machine = surroundings.machine

    def read(self, experiment: str, seed: int) -> MeasuredSeed | None:
        """Returns what a seed measured; None if it was not measured here."""
        if self._folder is None:
            return None
        try:
            kept = msgspec.json.decode((self._folder / _name(experiment, seed)).read_bytes(), type=Kept)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return kept.seed if kept.machine == self._machine else None

    def write(self, experiment: str, seed: int, measured: MeasuredSeed) -> None:
        """Keeps what a seed that has ended has measured."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        kept = Kept(self._machine, measured)
        with atomic_write(self._folder / _name(experiment, seed)) as file:
            file.write(msgspec.json.encode(kept))


def _name(experiment: str, seed: int) -> str:
    return f"{experiment}-{seed}.json"


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


EXPERIMENTS = (
    sparse_attention.EXPERIMENT,
    sharing.EXPERIMENT,
    layered_tuning.EXPERIMENT,
    batching.EXPERIMENT,
    quantization.EXPERIMENT,
    profiles.EXPERIMENT,
    adaptive_precision.EXPERIMENT,
    head_pruning.EXPERIMENT,
)
