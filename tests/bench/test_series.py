"""The rows of a series, and where there are none."""

import pytest

from bench.series import ELEC2_GOAL, FIRST, figures, load_rows, play
from evals.results.row import NoResult, Skip
from evals.streams.tabular import ELEC2, read_table
from lifelong import Client
from tests.required import data_folder


def test_the_accuracies_are_of_the_answers_and_of_the_no_change_baseline() -> None:
    labels = ["up", "up", "down", "down", "up"] * 4
    rows = {row.name: row for row in figures(labels, ["up"] * 10 + labels[10:], ELEC2_GOAL, "elec2")}
    assert rows["series.as_given"].calls[0].value == 80.0
    assert rows["series.as_given"].met is False
    assert rows["series.no_change"].calls[0].value == round(100 * 11 / 19, 2)


def test_the_rows_that_chose_the_settings_are_left_out() -> None:
    columns_ND, labels_N = read_table(ELEC2, data_folder("elec2"))
    ((features, label),) = load_rows("elec2", 1)
    assert list(features.values()) == columns_ND[FIRST["elec2"]].tolist()
    assert label == ELEC2.classes[int(labels_N[FIRST["elec2"]])]


def test_without_data_the_benchmark_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIFELONG_DATA", raising=False)
    with pytest.raises(Skip, match="elec2"):
        load_rows("elec2", 10)
    with pytest.raises(NoResult, match="use one of elec2, weather"):
        load_rows("elec", 10)


def test_an_unreachable_service_has_no_result() -> None:
    with Client("http://127.0.0.1:1", timeout_s=0.2) as client, pytest.raises(NoResult, match="row 0"):
        list(play([({"x": 1.0}, "up")], client, 100.0))
