import gzip
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evals.streams.tabular import ELEC2, LAGS, WEATHER, series, with_past
from learner.errors import DataError

ROWS = [f"0.5,{number},0.25,0,0,0.125,{number % 2}" for number in range(40)]


def write(folder: Path, lines: list[str]) -> Path:
    (folder / "elec2").mkdir()
    (folder / "elec2" / "elec.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return folder


def test_elec2_is_ten_spans_of_time_in_order(tmp_path: Path) -> None:
    benchmark = series(ELEC2, write(tmp_path, [",".join(ELEC2.header), *ROWS]))
    assert benchmark.is_ordered and benchmark.classes == ELEC2.classes and len(benchmark.stages) == 10
    prices_N = torch.cat([span.train.inputs[:, 1] for span in benchmark.stages])
    labels_N = torch.cat([span.test.labels_N for span in benchmark.stages])
    assert prices_N.tolist() == list(range(40))
    assert labels_N.tolist() == [0, 1] * 20


def test_weather_has_its_own_columns(tmp_path: Path) -> None:
    (tmp_path / "weather").mkdir()
    lines = [",".join(WEATHER.header), *(f"{number},1,2,3,4,5,6,7,{number % 2}" for number in range(20))]
    (tmp_path / "weather" / "weather.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    benchmark = series(WEATHER, tmp_path)
    assert benchmark.name == "weather" and benchmark.classes == ("dry", "rain")
    assert benchmark.stages[1].train.inputs[0, :8].tolist() == [2, 1, 2, 3, 4, 5, 6, 7]
    with pytest.raises(DataError, match=r"put elec\.csv\.gz in a folder elec2"):
        series(ELEC2, tmp_path)


def test_a_row_has_its_columns_and_then_columns_and_label_of_each_lag() -> None:
    columns_ND = torch.tensor([[1.0], [2.0], [3.0]])
    labels_N = torch.tensor([0, 1, 1])
    assert with_past(columns_ND, labels_N, (1, 2), num_classes=2).tolist() == [
        [1, 0, 0, 0, 0, 0, 0],
        [2, 1, 1, 0, 0, 0, 0],
        [3, 2, 0, 1, 1, 1, 0],
    ]


@given(st.integers(1, 30), st.integers(0, 29), st.integers(0, 999))
def test_inputs_do_not_depend_on_later_rows_or_their_own_label(num: int, at: int, seed: int) -> None:
    at = min(at, num - 1)
    rng = torch.Generator().manual_seed(seed)
    columns_ND = torch.rand(num, 3, generator=rng)
    labels_N = torch.randint(0, 2, (num,), generator=rng)
    before = with_past(columns_ND, labels_N, LAGS, num_classes=2)
    columns_ND[at + 1 :] += 1
    labels_N[at:] = 1 - labels_N[at:]
    after = with_past(columns_ND, labels_N, LAGS, num_classes=2)
    assert torch.equal(before[: at + 1], after[: at + 1])


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"elec.csv.gz is missing; put .* in a folder elec2"):
        series(ELEC2, tmp_path)
    with pytest.raises(DataError, match="LIFELONG_DATA names no folder"):
        series(ELEC2, None)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], "not period, nswprice"),
        (["date," + ",".join(ELEC2.header), *ROWS], "not period, nswprice"),
        ([",".join(ELEC2.header), *ROWS[:5]], "at least 10 rows"),
        ([",".join(ELEC2.header), *ROWS, "0.5,0.1,0.2"], r"elec.csv.gz:42: not 7 numbers"),
        ([",".join(ELEC2.header), *ROWS, "0.5,0.1,0.2,0,0,0.5,UP"], r"elec.csv.gz:42: could not convert"),
        ([",".join(ELEC2.header), *ROWS, "0.5,0.1,0.2,0,0,0.5,2"], r"elec.csv.gz:42: .* the last of them 0 or 1"),
        ([",".join(ELEC2.header), *ROWS, "0.5,nan,0.2,0,0,0.5,1"], r"elec.csv.gz:42: not 7 numbers"),
    ],
)
def test_a_malformed_file_is_refused_with_the_line(tmp_path: Path, lines: list[str], complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        series(ELEC2, write(tmp_path, lines))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    (tmp_path / "elec2" / "elec.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match="no gzipped text"):
        series(ELEC2, tmp_path)
