"""The plot of learning curves."""

from pathlib import Path

from services.bench.command import _num_rows, _spread_after, draw
from tests.evals.continual.outcomes import OUTCOME, changed

PNG = b"\x89PNG"


def test_curves_and_a_learner_of_everything_at_once_are_drawn(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    draw([OUTCOME, changed(seed=1), changed(strategy="joint", accuracy_matrix=((93.0,),))], ["a", "b"], path)
    assert path.read_bytes().startswith(PNG)


def test_a_point_is_the_mean_of_the_stages_so_far_over_the_runs() -> None:
    runs = [OUTCOME, changed(accuracy_matrix=((97.0,), (93.0, 91.0)))]
    assert _num_rows(runs) == 2
    mean, deviation = _spread_after(runs, 1)
    assert (mean, round(deviation, 3)) == (91.0, 1.414)
