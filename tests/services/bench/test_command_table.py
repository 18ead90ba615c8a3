"""The table of results: mean and deviation over the seeds, in groups by what was trained."""

from rich.console import Console

from services.bench.command import WIDTH, results_table
from tests.evals.continual.outcomes import OUTCOME, changed


def shown(*outcomes: object) -> list[str]:
    console = Console(width=WIDTH, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(results_table(outcomes))  # type: ignore[arg-type]
    return capture.get().splitlines()


def test_one_run_is_a_row_without_a_deviation() -> None:
    lines = shown(OUTCOME)
    (row,) = (line for line in lines if line.split()[:1] == ["er"])
    assert row.split() == ["er", "90.00", "2.00", "4.00", "1,200", "2", "1.50", "3.25", "yes", "0.500"]
    assert "made, test, 1 seed" in lines[0]


def test_runs_of_a_strategy_are_one_row_with_the_spread_of_its_seeds() -> None:
    lines = shown(OUTCOME, changed(seed=1, final_accuracy=92.0))
    (row,) = (line for line in lines if line.split()[:1] == ["er"])
    assert "91.00 ± 1.41" in row
    assert "2 seeds" in lines[0]


def test_heads_on_a_frozen_encoder_stand_apart() -> None:
    lines = [line.strip() for line in shown(changed(strategy="lda", encoder="frozen"), OUTCOME)]
    assert lines.index("encoder trained") < lines.index("encoder frozen")
