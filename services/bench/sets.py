"""The data sets of `lifelong bench learn` by name, and the strategies that each kind of them takes.

clinc150, support, a folder -> texts        split-mnist, permuted-mnist -> images
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from learner.offline import recipes, texts
from learner.offline.images import PERMUTED, SPLIT, permuted_mnist, split_mnist
from learner.offline.runner import Strategy
from learner.offline.stage import Benchmark, Part, Stage
from services.demo.data import CLINC150, SUPPORT, load
from services.demo.stream import Item


@dataclass(frozen=True, slots=True)
class Kind:
    """What can be measured on one kind of items. `defaults`: the strategies that run where none is named."""

    strategies: dict[str, Strategy[Any]]
    defaults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Set:
    """A data set that has a name. `load` gets the folder of data sets; raises DataError."""

    kind: Kind
    load: Callable[[Path | None], Benchmark[Any]]


TEXTS = Kind(texts.STRATEGIES, ("lifelong", "ridge"))
SPLIT_IMAGES = Kind(recipes.strategies_of(recipes.SPLIT_RECIPES), ("naive", "er", "der++", "der-ace", "joint"))
PERMUTED_IMAGES = Kind(recipes.strategies_of(recipes.PERMUTED_RECIPES), ("naive", "er", "der++", "joint"))


def set_of(name: str) -> Set:
    """The set of that name; any other name is a folder of texts."""
    return SETS[name] if name in SETS else Set(TEXTS, partial(_texts, name))


def _texts(name: str, data: Path | None) -> Benchmark[list[str]]:
    stream = load(name, data)
    classes = tuple(dict.fromkeys(item.label for stage in stream.stages for item in stage.train))
    ids = {label: place for place, label in enumerate(classes)}
    stages = (Stage(it.name, _part(it.train, ids), _part(it.test, ids)) for it in stream.stages)
    return Benchmark(name, classes, tuple(stages))


def _part(items: Sequence[Item], ids: dict[str, int]) -> Part[list[str]]:
    return Part([item.text for item in items], torch.tensor([ids[item.label] for item in items]))


SETS = {name: Set(TEXTS, partial(_texts, name)) for name in (CLINC150, SUPPORT)} | {
    SPLIT: Set(SPLIT_IMAGES, split_mnist),
    PERMUTED: Set(PERMUTED_IMAGES, permuted_mnist),
}
