from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evals.continual.recipes import PERMUTED_RECIPES, SPLIT_RECIPES, for_images, recipe_for, shifted
from evals.continual.runner import Run, RunChoice, shuffle_stages
from evals.streams.benchmark import Benchmark
from evals.streams.images import PERMUTED, SPLIT, permuted_mnist, split_mnist
from learner.config import LearnerConfig
from tests.evals.streams.mnist_files import small_mnist
from tests.required import data_folder

BOTH = [(SPLIT, SPLIT_RECIPES), (PERMUTED, PERMUTED_RECIPES)]


def measured(benchmark: Benchmark[torch.Tensor], name: str, *, buffer: int) -> Run:
    choice = RunChoice(seed=0, buffer=buffer, passes=0.0, learner=LearnerConfig(), encoder="none")
    strategy = for_images(SPLIT_RECIPES if benchmark.name == SPLIT else PERMUTED_RECIPES)[name]
    ours = shuffle_stages(benchmark, 0)
    return strategy.measure(ours, strategy.make(ours, choice), choice, lambda stage, row: None)


@pytest.mark.parametrize("data, recipes", BOTH)
def test_every_contender_learns_every_stage(tmp_path: Path, data: str, recipes: dict[str, object]) -> None:
    folder = small_mnist(tmp_path)
    benchmark = split_mnist(folder) if data == SPLIT else permuted_mnist(folder, num_stages=2)
    for name in (*recipes, "joint"):
        run = measured(benchmark, name, buffer=30)
        assert len(run.matrix) == (1 if name == "joint" else len(benchmark.stages))
        num_bytes = run.usage.num_bytes
        assert (num_bytes == 0) == (name in ("naive", "joint", "lwf", "ewc")) and num_bytes < 40_000
        assert run.usage.gradients >= run.num_items


def test_der_has_the_hyperparameters_of_its_authors() -> None:
    sizes = (10, 200, 499, 500, 5119, 5120, 9999)
    replayed = [recipe_for(SPLIT_RECIPES["der++"], size).replayed for size in sizes]
    assert replayed == [128, 128, 128, 10, 10, 64, 64]
    assert [recipe_for(PERMUTED_RECIPES["der++"], size).rate for size in (200, 500, 5120)] == [0.1, 0.2, 0.2]


@given(st.integers(0, 27), st.integers(0, 27), st.integers(0, 2**30))
def test_an_image_is_shifted_by_at_most_a_pixel(row: int, column: int, seed: int) -> None:
    image = torch.zeros(28, 28, dtype=torch.uint8)
    image[row, column] = 200
    moved = shifted(image.reshape(1, 784).repeat(8, 1), torch.Generator().manual_seed(seed)).view(8, 28, 28)
    for one in moved:
        places = one.nonzero().tolist()
        assert all(abs(r - row) <= 1 and abs(c - column) <= 1 and one[r, c] == 200 for r, c in places)
        assert len(places) == 1 or row in (0, 27) or column in (0, 27)


@pytest.mark.slow
def test_ours_is_better_than_published_on_the_real_digits() -> None:
    run = measured(split_mnist(data_folder("mnist")), "der-ace", buffer=200)
    assert sum(run.matrix[-1]) / 5 > 86.6  # DER++, published: 85.61
