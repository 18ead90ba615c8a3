import gzip
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evals.streams.images import DIGITS, permuted_mnist, read_idx, split_mnist
from learner.errors import DataError
from tests.evals.streams.mnist_files import idx, small_mnist


def test_split_mnist_has_two_digits_a_stage(tmp_path: Path) -> None:
    benchmark = split_mnist(small_mnist(tmp_path))
    assert benchmark.classes == DIGITS and len(benchmark.stages) == 5
    for pair, stage in enumerate(benchmark.stages):
        assert stage.name == f"{2 * pair} and {2 * pair + 1}"
        for part, count in ((stage.train, 40), (stage.test, 10)):
            counts = [count if digit // 2 == pair else 0 for digit in range(10)]
            assert part.labels_N.bincount(minlength=10).tolist() == counts
            assert part.inputs.shape == (2 * count, 784) and part.inputs.dtype == torch.uint8


def test_permuted_mnist_has_the_same_pixels_in_other_orders(tmp_path: Path) -> None:
    first, second, third = permuted_mnist(small_mnist(tmp_path), num_stages=3).stages
    assert torch.equal(first.train.labels_N, third.train.labels_N) and len(first.train) == 400
    assert not torch.equal(first.train.inputs, second.train.inputs)
    assert torch.equal(first.train.inputs.sort(dim=1).values, second.train.inputs.sort(dim=1).values)
    columns = [torch.cat((stage.train.inputs, stage.test.inputs)).T for stage in (first, second)]
    assert torch.equal(
        torch.unique(columns[0], dim=0), torch.unique(columns[1], dim=0)
    )  # one order for training and testing
    again = permuted_mnist(tmp_path, num_stages=2).stages
    assert torch.equal(again[1].train.inputs, second.train.inputs)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=3))
def test_an_idx_file_is_read_back(shape: list[int]) -> None:
    import tempfile

    values = torch.arange(torch.Size(shape).numel(), dtype=torch.uint8).reshape(shape)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "values.gz"
        path.write_bytes(idx(values))
        assert torch.equal(read_idx(path), values)


def test_a_missing_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz is missing; put .* in a folder mnist"):
        split_mnist(tmp_path)
    with pytest.raises(DataError, match="LIFELONG_DATA names no folder"):
        permuted_mnist(None)


@pytest.mark.parametrize(
    "data",
    [b"", b"no gzip", gzip.compress(b"\0\0"), gzip.compress(b"\0\0\x08\x01\0\0\0\x09ab")],
    ids=["empty", "no gzip", "short", "too few bytes"],  # a packed file holds the time, and ids must stay the same
)
def test_a_damaged_file_is_named(tmp_path: Path, data: bytes) -> None:
    folder = small_mnist(tmp_path)
    (folder / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(data)
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz: no "):
        split_mnist(folder)


def test_another_data_set_is_refused(tmp_path: Path) -> None:
    folder = small_mnist(tmp_path)
    (folder / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(torch.full((100,), 11, dtype=torch.uint8)))
    with pytest.raises(DataError, match="not the published MNIST"):
        split_mnist(folder)
