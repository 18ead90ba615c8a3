"""Runs any strategy or plugin of Avalanche, given by import path, on our stages in Avalanche's own training loop.

stage --> experience --> strategy.train             test items --> strategy.model

`learner.rounds.avalanche` imports the class and creates the strategy. If a recipe asks for a number of sample
gradients, `GradientBudget` ends the training of a stage at that number, so that all strategies have equal budgets.
Avalanche's epochs would end at a different number for each strategy.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from evals.continual.contender import Contender, Passes, Traits, Usage, counting_passes
from evals.continual.gradient import PREDICT_BATCH, Recipe
from evals.streams.benchmark import Part
from learner.plugins import quiet
from learner.rounds.avalanche import ImportedClass, experiences, has_memory, make


class GradientBudget:
    """The plugin that ends the training of a stage after `end` sample gradients, but not within the first epoch."""

    def __init__(self, passes: Passes) -> None:
        self._passes = passes
        self.end = math.inf
        self.num_steps_left = 0
        """The number of steps until the end of the stage's first epoch."""

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.num_steps_left -= 1
        if self.num_steps_left <= 0 and self._passes.gradients >= self.end:
            strategy.stop_training()


class Avalanche(Contender[Tensor]):
    """A contender that trains `net` with an Avalanche strategy. Raises DataError for missing or wrong arguments.

    It takes the learning rate, the batches and the passes from `recipe`. `capacity` is Avalanche's `mem_size`.
    """

    traits = Traits(precision="fp32")

    def __init__(self, imported: ImportedClass, net: nn.Module, recipe: Recipe, *, capacity: int, seed: int) -> None:
        self._recipe = recipe
        self._passes = Passes()
        self._budget = GradientBudget(self._passes)
        common = {
            "model": net,
            "optimizer": recipe.optimizer(net, recipe.rate),
            "criterion": nn.CrossEntropyLoss(),
            "train_mb_size": recipe.batch,
            "eval_mb_size": PREDICT_BATCH,
            "train_epochs": math.ceil(recipe.passes) + 1 if recipe.passes else 1,
            "evaluator": None,
            "plugins": [self._budget],
            "mem_size": capacity,
        }
        if recipe.passes:
            common["batch_size_mem"] = recipe.replayed
        self._seed = seed
        self._capacity = capacity
        self._has_memory = has_memory(imported)
        self._strategy = make(imported, common)
        self._learnt: list[tuple[Tensor, Tensor]] = []

    def learn_many(self, part: Part[Tensor]) -> None:
        self._learnt.append((part.inputs.float(), part.labels_N))
        stages = len(self._learnt)
        if self._recipe.passes:
            self._budget.end = self._passes.gradients + self._recipe.passes * len(part)
            self._budget.num_steps_left = math.ceil(len(part) / self._recipe.batch)
        with quiet(), torch.random.fork_rng(), counting_passes(self._strategy.model, self._passes):
            # Avalanche shuffles and samples its memory with torch's global generator.
            torch.manual_seed(1_000 * self._seed + stages)
            self._strategy.train(experiences(self._learnt)[-1])

    @torch.no_grad()
    def predict_many(self, inputs: Tensor) -> Tensor:
        net = self._strategy.model.eval()
        return torch.cat([net(x.float()).argmax(dim=1) for x in torch.split(inputs, PREDICT_BATCH)])

    @property
    def usage(self) -> Usage:
        """Counts as many rows as the strategy may store, in the type in which it gets them. Other state is left out."""
        num_rows = 0
        num_bytes = 0
        if self._learnt and self._has_memory:
            rows, labels_N = self._learnt[0]
            num_rows = min(self._capacity, sum(len(labels_N) for _, labels_N in self._learnt))
            num_bytes = num_rows * (rows[0].nbytes + labels_N[0].nbytes)
        return Usage(
            samples=num_rows,
            num_bytes=num_bytes,
            gradients=self._passes.gradients,
            forwards=self._passes.forwards,
        )
