"""What a seed measured is kept for its commit and its machine, and a run goes on with the seeds that are missing."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as replaced

from bench.techniques.experiment import Figure, SeedRun
from bench.techniques.run import MeasuredSeed, MeasuredSeeds, run_all
from evals.results import conditions
from evals.results.row import NoResult, Peer
from evals.results.rows import ResultLine
from tests.bench.techniques.test_experiment import TWO
from tests.evals.results.test_rows_result_line import CONDITIONS, HERE

CLEAN = replaced(HERE, commit="abc1234")
SEED = MeasuredSeed(
    figures=(
        Figure(bar="right", value=99.5, peers=(Peer("other", 98.0),), note="a note"),
        Figure(bar="fast", value=None),
    ),
    conditions=CONDITIONS[0],
)


@pytest.fixture(autouse=True)
def unobserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are observed for no time before and after a seed."""
    monkeypatch.setattr(conditions, "PAUSE_S", 0.0)


def test_figures_are_kept_as_they_are(tmp_path: Path) -> None:
    measured = MeasuredSeeds(tmp_path, CLEAN)
    assert measured.read("E0", 1) is None
    measured.write("E0", 1, SEED)
    assert MeasuredSeeds(tmp_path, CLEAN).read("E0", 1) == SEED
    assert measured.read("E0", 2) is None


def test_figures_belong_to_a_commit_and_a_machine(tmp_path: Path) -> None:
    MeasuredSeeds(tmp_path, CLEAN).write("E0", 1, SEED)
    for other in (replaced(CLEAN, commit="def5678"), replaced(CLEAN, machine="another")):
        assert MeasuredSeeds(tmp_path, other).read("E0", 1) is None


def test_a_tree_with_changes_keeps_nothing(tmp_path: Path) -> None:
    changed = MeasuredSeeds(tmp_path, replaced(CLEAN, commit="abc1234+"))
    changed.write("E0", 1, SEED)
    assert changed.read("E0", 1) is None
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_measured_again(tmp_path: Path) -> None:
    measured = MeasuredSeeds(tmp_path, CLEAN)
    measured.write("E0", 1, SEED)
    (kept,) = tmp_path.rglob("*.json")
    kept.write_bytes(kept.read_bytes()[:-3])
    assert measured.read("E0", 1) is None


def test_a_run_that_was_stopped_goes_on_and_gives_the_same_lines(tmp_path: Path) -> None:
    seeds: list[int] = []
    stops_at = [1]

    def measure(run: SeedRun) -> Iterator[Figure]:
        if run.seed in stops_at:
            stops_at.clear()
            raise KeyboardInterrupt
        seeds.append(run.seed)
        yield from TWO.measure(run)

    def lines(measured: MeasuredSeeds, measure: Callable[[SeedRun], Iterator[Figure]]) -> list[ResultLine]:
        experiments = [replace(TWO, measure=measure)]
        return list(
            run_all(experiments, is_quick=False, data=None, surroundings=CLEAN, say=lambda _: None, measured=measured)
        )

    measured = MeasuredSeeds(tmp_path, CLEAN)
    with pytest.raises(KeyboardInterrupt):
        lines(measured, measure)
    gone_on = lines(measured, measure)
    at_once = lines(MeasuredSeeds(None, CLEAN), TWO.measure)
    assert [line.calls for line in gone_on] == [line.calls for line in at_once]
    assert [len(line.conditions) for line in gone_on] == [3, 3]
    assert seeds == [0, 1, 2]
    assert lines(measured, measure) == gone_on


def test_a_seed_without_a_result_is_tried_again(tmp_path: Path) -> None:
    def fails(run: SeedRun) -> Iterator[Figure]:
        yield Figure(bar="right", value=99.0)
        raise NoResult("it diverged")

    measured = MeasuredSeeds(tmp_path, CLEAN)
    failing = [replace(TWO, measure=fails)]
    list(run_all(failing, is_quick=False, data=None, surroundings=CLEAN, say=lambda _: None, measured=measured))
    assert measured.read("E0", 0) is None
