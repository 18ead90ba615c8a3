"""Lists the contenders for rows of numbers by name, with the best hyperparameters for each data set and memory size.

    naive, joint        the lower bound, and the same learner on all stages at once
    lwf, ewc            without a memory
    a-gem, er, er-ace   with a memory
    der++               with the hyperparameters, the batches and the net of its authors, 784-100-100-10
    der-ace             ours: DER++ with ER-ACE's loss of the fresh samples, a class-balanced memory, replayed images
                        that are shifted by a pixel at random, and predictions by the running mean of the weights

Where the hyperparameters come from:

- DER++ on images: Buzzega et al. published them for memories of 200, 500 and 5120.
- Other strategies on split-mnist: chosen on a holdout of 5,000 training digits.
- Permuted-mnist: all strategies have the batches and about the learning rate of DER++.
- Linear heads on texts: chosen on CLINC150's validation texts.
- Blocks of the encoder (`TOKEN_RECIPES`): the optimizer and the rates of the learner's slow rounds, which were chosen
  for the learner and not for the other contenders. The others are the same as for linear heads.

A memory of another size takes the hyperparameters of the next smaller size.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from evals.continual.avalanche import Avalanche
from evals.continual.gradient import ElasticWeights, GradientLearner, Pixels, Recipe, mlp
from evals.continual.runner import Method, RunChoice, all_at_once
from evals.streams.benchmark import Benchmark
from evals.streams.images import NUM_PIXELS
from learner.config import LearnerConfig
from learner.rounds.avalanche import ImportedClass, find
from learner.rounds.strategies import AsymmetricReplay, AveragedGradient, DarkReplay, Distillation, ExperienceReplay
from learner.rounds.strategies import Strategy as Plain
from learner.rounds.trainer import torch_adamw

HIDDEN = 100
BLOCKS_RATE = LearnerConfig().slow_rate
BLOCKS_DECAY = LearnerConfig().slow_weight_decay
"""The learning rate and the weight decay of the blocks: the defaults of the learner's rounds."""
BLOCKS_BATCH = 16

BySize: TypeAlias = dict[int, Recipe]
Recipes: TypeAlias = dict[str, BySize]


def shifted(x_BP: Tensor, rng: torch.Generator) -> Tensor:
    """Shifts images of 28 x 28 pixels at random, by at most one pixel in each direction, with a black border."""
    x_BHW = x_BP.view(-1, 28, 28)
    windows_B33HW = functional.pad(x_BHW, (1, 1, 1, 1)).unfold(1, 28, 1).unfold(2, 28, 1)
    down_B, right_B = torch.randint(3, (2, len(x_BP)), generator=rng)
    return windows_B33HW[torch.arange(len(x_BP)), down_B, right_B].reshape(x_BP.shape)


def _dark(alpha: float, beta: float, rate: float, *, batch: int, replayed: int) -> Recipe:
    return Recipe(strategy=partial(DarkReplay, alpha=alpha, beta=beta), rate=rate, batch=batch, replayed=replayed)


def _ours(alpha: float, rate: float) -> Recipe:
    return Recipe(
        strategy=partial(DarkReplay, alpha=alpha, beta=1.0, is_asymmetric=True),
        rate=rate,
        batch=10,
        replayed=64,
        policy="class-balanced",
        augment=shifted,
        decay=0.99,
    )


SPLIT_RECIPES: Recipes = {
    "naive": {0: Recipe(strategy=Plain, rate=0.03, batch=10)},
    "lwf": {0: Recipe(strategy=partial(Distillation, alpha=1.0), rate=0.03, batch=10)},
    "ewc": {0: Recipe(strategy=partial(ElasticWeights, strength=10.0, decay=1.0), rate=0.03, batch=10)},
    "a-gem": {0: Recipe(strategy=AveragedGradient, rate=0.1, batch=10, replayed=64, policy="experience-balanced")},
    "er": {
        0: Recipe(strategy=ExperienceReplay, rate=0.03, batch=10, replayed=64),
        5120: Recipe(strategy=ExperienceReplay, rate=0.1, batch=10, replayed=64),
    },
    "er-ace": {
        0: Recipe(strategy=AsymmetricReplay, rate=0.03, batch=10, replayed=10, policy="class-balanced"),
        5120: Recipe(strategy=AsymmetricReplay, rate=0.1, batch=10, replayed=64, policy="class-balanced"),
    },
    "der++": {
        200: _dark(0.2, 1.0, 0.03, batch=10, replayed=128),
        500: _dark(1.0, 0.5, 0.03, batch=10, replayed=10),
        5120: _dark(0.2, 0.5, 0.1, batch=10, replayed=64),
    },
    "der-ace": {0: _ours(0.2, 0.03), 500: _ours(0.2, 0.05), 5120: _ours(0.1, 0.1)},
}

PERMUTED_RECIPES: Recipes = {
    "naive": {0: Recipe(strategy=Plain, rate=0.2, batch=128)},
    "lwf": {0: Recipe(strategy=partial(Distillation, alpha=1.0), rate=0.2, batch=128)},
    "ewc": {0: Recipe(strategy=partial(ElasticWeights, strength=3.0, decay=1.0), rate=0.1, batch=128)},
    "a-gem": {0: Recipe(strategy=AveragedGradient, rate=0.1, batch=128, replayed=128, policy="experience-balanced")},
    "er": {0: Recipe(strategy=ExperienceReplay, rate=0.2, batch=128, replayed=128)},
    "er-ace": {0: Recipe(strategy=AsymmetricReplay, rate=0.2, batch=128, replayed=128)},
    "der++": {
        200: _dark(1.0, 1.0, 0.1, batch=128, replayed=128),
        500: _dark(1.0, 0.5, 0.2, batch=128, replayed=128),
        5120: _dark(0.5, 1.0, 0.2, batch=128, replayed=128),
    },
}

VECTOR_RECIPES: Recipes = {
    "naive": {0: Recipe(strategy=Plain, rate=0.1, batch=10)},
    "lwf": {0: Recipe(strategy=partial(Distillation, alpha=1.0), rate=0.1, batch=10)},
    "ewc": {0: Recipe(strategy=partial(ElasticWeights, strength=10.0, decay=1.0), rate=0.1, batch=10)},
    "a-gem": {0: Recipe(strategy=AveragedGradient, rate=0.1, batch=10, replayed=64, policy="experience-balanced")},
    "er": {0: Recipe(strategy=ExperienceReplay, rate=0.1, batch=10, replayed=32, policy="class-balanced")},
    "er-ace": {0: Recipe(strategy=AsymmetricReplay, rate=0.1, batch=10, replayed=32, policy="class-balanced")},
    "der++": {0: _dark(0.1, 1.0, 0.1, batch=10, replayed=32)},
}


def adamw(net: nn.Module, rate: float) -> Optimizer:
    """Returns AdamW for the blocks in `net.top` and the linear head in `net.head`."""
    blocks = net.get_submodule("top").parameters()
    head = net.get_submodule("head").parameters()
    return torch_adamw(blocks, head, rate=rate, decay=BLOCKS_DECAY)


def _of_blocks(by_size: BySize) -> BySize:
    return {
        size: replace(recipe, rate=BLOCKS_RATE, batch=BLOCKS_BATCH, optimizer=adamw) for size, recipe in by_size.items()
    }


TOKEN_RECIPES: Recipes = {name: _of_blocks(by_size) for name, by_size in VECTOR_RECIPES.items()}

VECTOR_SCALE = 20.0
"""The factor by which unit vectors are scaled, so that the logits of a linear head can differ enough."""


def recipe_for(by_size: BySize, capacity: int) -> Recipe:
    """Returns the hyperparameters for a memory of this size."""
    return by_size[max((size for size in by_size if size <= capacity), default=min(by_size))]


def image_net(num_classes: int, seed: int) -> nn.Module:
    """Returns the net of the published results, for images as rows of bytes."""
    return nn.Sequential(Pixels(), *mlp((NUM_PIXELS, HIDDEN, HIDDEN, num_classes), seed))


class Scaled(nn.Module):
    """Scales unit vectors. It is the first layer of a head on vectors."""

    def forward(self, z_BD: Tensor) -> Tensor:
        return VECTOR_SCALE * z_BD


def vector_net(num_inputs: int, num_classes: int, seed: int) -> nn.Module:
    """Returns a linear head on unit vectors."""
    return nn.Sequential(Scaled(), *mlp((num_inputs, num_classes), seed))


def gradient_learner(by_size: BySize, net: nn.Module, choice: RunChoice) -> GradientLearner:
    """Returns the contender that trains `net`."""
    recipe = recipe_for(by_size, choice.buffer).paced(choice.passes)
    return GradientLearner(net, recipe, capacity=choice.buffer, seed=choice.seed)


def avalanches(imported: ImportedClass, recipes: Recipes, net: nn.Module, choice: RunChoice) -> Avalanche:
    """Returns Avalanche's contender, which trains `net` with the batches and the learning rate of our replay (`er`)."""
    recipe = recipe_for(recipes["er"], choice.buffer).paced(choice.passes)
    return Avalanche(imported, net, recipe, capacity=choice.buffer, seed=choice.seed)


def for_images(recipes: Recipes) -> dict[str, Method[Tensor]]:
    """Returns the methods by name, including `joint`."""

    def maker(name: str) -> Callable[[Benchmark[Tensor], RunChoice], GradientLearner]:
        return lambda benchmark, choice: gradient_learner(recipes[name], _net(benchmark, choice), choice)

    return {name: Method(maker(name)) for name in recipes} | {"joint": Method(maker("naive"), all_at_once)}


def for_images_by_path(recipes: Recipes, name: str) -> Method[Tensor]:
    """Returns the method of an Avalanche strategy. Raises DataError for an unknown name."""
    imported = find(name)
    return Method(lambda benchmark, choice: avalanches(imported, recipes, _net(benchmark, choice), choice))


def _net(benchmark: Benchmark[Tensor], choice: RunChoice) -> nn.Module:
    return image_net(len(benchmark.classes), choice.seed)
