"""The data sets of `lifelong bench learn` by name, and the strategies for each kind of data.

clinc150 (all, 5 or 10 shots), support, a folder -> texts
split-mnist, permuted-mnist -> images               elec2 -> streams
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from evals.continual import recipes, streams, texts
from evals.continual.avalanche import is_path
from evals.continual.runner import Method
from evals.streams.benchmark import Benchmark, Part
from evals.streams.data import CLINC150, SUPPORT, fewshot, load
from evals.streams.images import PERMUTED, SPLIT, permuted_mnist, split_mnist
from evals.streams.stage import Stage
from evals.streams.stream import StreamItem
from evals.streams.tabular import ELEC2, elec2
from learner.errors import DataError


@dataclass(frozen=True, slots=True)
class DataKind:
    """The strategies for one kind of items. `defaults` names those that run where none is chosen.

    `by_path` makes one of Avalanche's strategies, or raises DataError.
    """

    strategies: dict[str, Method[Any]]
    defaults: tuple[str, ...]
    by_path: Callable[[str], Method[Any]]

    def named(self, name: str) -> Method[Any]:
        """Returns the strategy of that name or import path. Raises DataError."""
        if is_path(name):
            return self.by_path(name)
        if name not in self.strategies:
            raise DataError(f"no strategy {name!r} here: there are {', '.join(self.strategies)}, avalanche-NAME")
        return self.strategies[name]


@dataclass(frozen=True, slots=True)
class Set:
    """A named data set. `load` gets the folder of data sets, and may raise DataError."""

    kind: DataKind
    load: Callable[[Path | None], Benchmark[Any]]


TEXTS = DataKind(texts.STRATEGIES, ("lifelong", "naive", "joint", "ridge", "avalanche-replay"), texts.by_path)
FEW = DataKind(texts.STRATEGIES, ("lifelong", "ridge", "ncm", "lda"), texts.by_path)
SPLIT_IMAGES = DataKind(
    recipes.for_images(recipes.SPLIT_RECIPES),
    ("naive", "er", "der-ace", "joint"),
    partial(recipes.for_images_by_path, recipes.SPLIT_RECIPES),
)
PERMUTED_IMAGES = DataKind(
    recipes.for_images(recipes.PERMUTED_RECIPES),
    ("naive", "er", "der++", "joint"),
    partial(recipes.for_images_by_path, recipes.PERMUTED_RECIPES),
)
STREAMS = DataKind(streams.STRATEGIES, tuple(streams.STRATEGIES), streams.by_path)


def set_of(name: str) -> Set:
    """Returns the set of that name; any other name is a folder of texts."""
    return SETS[name] if name in SETS else Set(TEXTS, partial(_texts, name))


def _texts(name: str, data: Path | None) -> Benchmark[list[str]]:
    stream = load(name, data)
    train = chain.from_iterable(stage.train for stage in stream.stages)
    classes = tuple(dict.fromkeys(item.label for item in train))
    ids = {label: index for index, label in enumerate(classes)}
    stages = (Stage(stage.name, _part(stage.train, ids), _part(stage.test, ids)) for stage in stream.stages)
    return Benchmark(name, classes, tuple(stages))


def _few(shots: int, data: Path | None) -> Benchmark[list[str]]:
    """Loads all classes as one stage, with `shots` texts each (the published draw), tested on the whole test set.

    All other training texts are there without their labels.
    """
    whole = load(CLINC150, data)
    train = fewshot(shots, data)
    classes = tuple(dict.fromkeys(item.label for item in train))
    ids = {label: index for index, label in enumerate(classes)}
    test = list(chain.from_iterable(stage.test for stage in whole.stages))
    drawn = {item.text for item in train}
    all_train = chain.from_iterable(stage.train for stage in whole.stages)
    others = [item.text for item in all_train if item.text not in drawn]
    stage = Stage(f"{shots} texts a class", _part(train, ids), _part(test, ids))
    return Benchmark(f"{CLINC150}-{shots}-shot", classes, (stage,), unlabelled=others)


def _part(items: Sequence[StreamItem], ids: dict[str, int]) -> Part[list[str]]:
    return Part([item.text for item in items], torch.tensor([ids[item.label] for item in items]))


SETS = {name: Set(TEXTS, partial(_texts, name)) for name in (CLINC150, SUPPORT)} | {
    **{f"{CLINC150}-{shots}-shot": Set(FEW, partial(_few, shots)) for shots in (5, 10)},
    SPLIT: Set(SPLIT_IMAGES, split_mnist),
    PERMUTED: Set(PERMUTED_IMAGES, permuted_mnist),
    ELEC2: Set(STREAMS, elec2),
}
