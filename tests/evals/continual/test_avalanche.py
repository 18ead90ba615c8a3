import pytest
import torch

from evals.continual.avalanche import Avalanche
from evals.continual.contender import Usage
from evals.continual.gradient import Recipe, mlp
from evals.streams.benchmark import Part
from learner.errors import DataError
from learner.rounds.avalanche import find
from learner.rounds.strategies import ExperienceReplay
from tests.evals.continual.points import accuracy, part

RECIPE = Recipe(strategy=ExperienceReplay, rate=0.3, batch=10, replayed=10)


def trained(name: str, *, seed: int = 1, recipe: Recipe = RECIPE) -> Avalanche:
    learner = Avalanche(find(name), mlp((8, 16, 4), seed), recipe, capacity=40, seed=seed)
    for labels in ((0, 1), (2, 3)):
        learner.learn_many(part(*labels, count=600))
    return learner


@pytest.mark.parametrize(
    "name",
    [
        "avalanche.training.supervised:Replay",
        "avalanche-replay",
        "avalanche.training.plugins:ReplayPlugin",
        "avalanche-der(batch_size_mem=20, alpha=0.2, beta=1.0)",
        "avalanche-er-ace(batch_size_mem=20)",
        "avalanche-gdumb",
    ],
)
def test_strategies_and_plugins_learn_our_stages(name: str) -> None:
    learner = trained(name)
    naive = trained("avalanche-naive")
    assert accuracy(learner, 0, 1) > accuracy(naive, 0, 1) + 0.1
    assert accuracy(learner, 2, 3) > 0.7
    assert naive.usage == Usage(gradients=1_200)
    assert (learner.usage.samples, learner.usage.num_bytes) == (40, 40 * (8 * 4 + 8))


@pytest.mark.parametrize("name", ["avalanche-naive", "avalanche-replay", "avalanche-er-ace", "avalanche-der"])
@pytest.mark.parametrize("passes", [2.0, 3.0, 4.5])
def test_all_strategies_compute_the_given_number_of_gradients(name: str, passes: float) -> None:
    recipe = RECIPE.paced(passes)
    usage = trained(name, recipe=recipe).usage
    assert 0 <= usage.gradients - passes * 1_200 <= 2 * (recipe.batch + recipe.replayed)


def test_every_row_is_fresh_once_even_if_fewer_gradients_are_given() -> None:
    assert trained("avalanche-replay", recipe=RECIPE.paced(1.0)).usage.gradients == 600 + 2 * 600


@pytest.mark.parametrize("name", ["avalanche-ewc(ewc_lambda=10.0)", "avalanche-lwf(alpha=1.0, temperature=2.0)"])
def test_arguments_are_passed_to_the_class(name: str) -> None:
    assert accuracy(trained(name), 2, 3) > 0.7


def test_rows_of_bytes_are_converted_to_floats() -> None:
    learner = Avalanche(find("avalanche-naive"), mlp((8, 16, 4), 0), RECIPE, capacity=4, seed=0)
    rows = torch.randint(9, (40, 8), dtype=torch.uint8)
    learner.learn_many(Part(rows, torch.arange(40) % 4))
    assert learner.predict_many(rows).shape == (40,)


def test_the_same_seed_learns_the_same() -> None:
    first, again = (trained("avalanche-replay").predict_many(part(0, 1, 2, 3, seed=9).inputs) for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize(
    "name, message",
    [
        ("avalanche-ewc", r"avalanche-ewc needs ewc_lambda: say avalanche-ewc\(ewc_lambda=...\)"),
        ("avalanche-gdumb(nothing=3)", "cannot be made: .*nothing"),
    ],
)
def test_missing_and_unknown_arguments_are_named(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Avalanche(find(name), mlp((8, 4), 0), RECIPE, capacity=10, seed=0)
