from functools import partial

import pytest
import torch

from evals.continual.contender import Usage
from evals.continual.gradient import ElasticWeights, GradientLearner, Recipe, mlp
from learner.rounds.strategies import (
    AsymmetricReplay,
    AveragedGradient,
    DarkReplay,
    Distillation,
    ExperienceReplay,
    Strategy,
)
from tests.evals.continual.points import accuracy, part

RECIPE = partial(Recipe, rate=0.3, batch=10, replayed=20, policy="class-balanced")


def trained(recipe: Recipe, *, seed: int = 1, last: tuple[int, int] = (2, 3)) -> GradientLearner:
    learner = GradientLearner(mlp((8, 16, 4), seed), recipe, capacity=40, seed=seed)
    first = (0, 1, 2, 3) if last == (0, 1) else (0, 1)
    learner.learn_many(part(*first))
    learner.learn_many(part(*last))
    return learner


@pytest.mark.parametrize(
    "make",
    [
        ExperienceReplay,
        AsymmetricReplay,
        partial(DarkReplay, alpha=0.2, beta=1.0),
        partial(DarkReplay, alpha=0.2, beta=1.0, is_asymmetric=True, loss_q=0.3),
    ],
)
def test_replay_keeps_the_first_stage(make: type[Strategy]) -> None:
    naive = trained(RECIPE(strategy=Strategy))
    replaying = trained(RECIPE(strategy=make))
    assert accuracy(naive, 2, 3) > 0.9 and accuracy(naive, 0, 1) < 0.7
    assert accuracy(replaying, 2, 3) > 0.9 and accuracy(replaying, 0, 1) > 0.9
    assert naive.usage == Usage(gradients=2_000)
    assert replaying.usage.samples == 40
    assert 0 < replaying.usage.num_bytes <= 40 * (8 * 4 + 8 + 4 * 4)


@pytest.mark.parametrize(
    "make",
    [AveragedGradient, partial(Distillation, alpha=1.0), partial(ElasticWeights, strength=10.0, decay=1.0)],
)
def test_strategies_against_forgetting_change_earlier_outputs_less(make: type[Strategy]) -> None:
    def lost(strategy: type[Strategy]) -> float:
        """Returns how much the second stage changed the outputs of the first stage's classes on their own items."""
        learner = GradientLearner(mlp((8, 16, 4), 1), RECIPE(strategy=strategy), capacity=40, seed=1)
        first = part(0, 1, seed=9)
        learner.learn_many(part(0, 1))
        before_NC = learner._net(first.inputs)
        learner.learn_many(part(2, 3))
        return float((learner._net(first.inputs) - before_NC)[:, :2].detach().square().mean())

    assert lost(make) < lost(Strategy)


def test_the_running_mean_of_the_weights_predicts() -> None:
    plain, mean = (trained(RECIPE(strategy=Strategy, decay=decay), last=(0, 1)) for decay in (0.0, 0.99))
    assert torch.equal(plain._net[0].weight, mean._net[0].weight)  # type: ignore[index]
    # The mean still contains earlier weights.
    assert accuracy(mean, 2, 3) > accuracy(plain, 2, 3)


def test_the_same_seed_learns_the_same_and_another_does_not() -> None:
    recipe = RECIPE(strategy=ExperienceReplay, augment=lambda x, rng: x + torch.randn(x.shape, generator=rng))
    first, again, other = (trained(recipe, seed=seed)._net[0].weight for seed in (1, 1, 2))  # type: ignore[index]
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("passes", [1.4, 3.0, 7.5])
@pytest.mark.parametrize("make", [Strategy, ExperienceReplay, partial(DarkReplay, alpha=0.2, beta=1.0)])
def test_all_strategies_compute_the_given_number_of_gradients(make: type[Strategy], passes: float) -> None:
    recipe = RECIPE(strategy=make).paced(passes)
    usage = trained(recipe).usage
    largest_step = recipe.batch + make().num_draws * recipe.replayed
    assert 0 <= usage.gradients - passes * 2_000 < 2 * largest_step


def test_each_row_is_offered_to_the_memory_once_for_any_number_of_passes() -> None:
    recipe = RECIPE(strategy=ExperienceReplay, replayed=1, passes=4.0)
    learner = GradientLearner(mlp((8, 16, 4), 1), recipe, capacity=4_000, seed=1)
    learner.learn_many(part(0, 1))
    assert learner.usage.samples == 1_000 and learner.usage.gradients >= 4_000


def test_passes_without_a_gradient_are_counted_separately() -> None:
    learner = trained(RECIPE(strategy=partial(Distillation, alpha=1.0)))
    # From the second stage on, the teacher passes every row forwards.
    assert (learner.usage.gradients, learner.usage.forwards) == (2_000, 1_000)
