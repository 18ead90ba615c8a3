"""The data sets of `lifelong bench learn` by name, and the strategies for each kind of data.

clinc150 (all, 5 or 10 shots), support, a folder -> texts
split-mnist, permuted-mnist -> images               elec2, weather -> streams
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evals.continual import recipes, streams, texts
from evals.continual.runner import Method
from evals.streams.benchmark import Benchmark, Part, Texts
from evals.streams.data import CLINC150, SPLITS, SUPPORT, fewshot, load
from evals.streams.images import PERMUTED, SPLIT, permuted_mnist, split_mnist
from evals.streams.stream import Stage, StreamItem
from evals.streams.tabular import TABLES, series
from learner.config import is_import_path
from learner.errors import DataError, is_installed

IMAGES_BUFFER = 500


@dataclass(frozen=True, slots=True)
class DataKind:
    """The strategies for one kind of items. `defaults` names those that run where none is chosen.

    `by_path` makes one of Avalanche's strategies, or raises DataError. `buffer` is the number of samples that a
    strategy may store where none is asked for; None: as many as the settings of the learner say.
    """

    strategies: dict[str, Method[Any]]
    defaults: tuple[str, ...]
    by_path: Callable[[str], Method[Any]]
    buffer: int | None

    def named(self, name: str) -> Method[Any]:
        """Returns the strategy of that name or import path. Raises DataError."""
        if is_import_path(name):
            return self.by_path(name)
        if name not in self.strategies:
            raise DataError(f"no strategy {name!r} here: there are {', '.join(self.strategies)}, avalanche-NAME")
        return self.strategies[name]


def without_avalanche(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the strategies of these that can be made, and those that need Avalanche where it is not installed."""
    missing = [name for name in names if "avalanche-" in name and not is_installed("avalanche")]
    return [name for name in names if name not in missing], missing


@dataclass(frozen=True, slots=True)
class Set:
    """A named data set. `load` gets the folder of data sets and the split to test on, and may raise DataError."""

    kind: DataKind
    load: Callable[[Path | None, str], Benchmark[Any]]


TRAINED = ("lifelong", "lifelong-joint", "joint", "er", "er-ace", "der++", "avalanche-replay", "naive")
FROZEN = ("ridge", "klda", "lda", "ncm", "frozen-joint", "frozen-er", "frozen-avalanche-replay")
TEXTS = DataKind(texts.STRATEGIES, (*TRAINED, *FROZEN), texts.by_path, buffer=None)
FEW = DataKind(texts.STRATEGIES, ("lifelong", "joint", "ridge", "ncm", "lda"), texts.by_path, buffer=None)
SPLIT_IMAGES = DataKind(
    recipes.for_images(recipes.SPLIT_RECIPES),
    ("naive", "er", "der-ace", "joint"),
    partial(recipes.for_images_by_path, recipes.SPLIT_RECIPES),
    buffer=IMAGES_BUFFER,
)
PERMUTED_IMAGES = DataKind(
    recipes.for_images(recipes.PERMUTED_RECIPES),
    ("naive", "er", "der++", "joint"),
    partial(recipes.for_images_by_path, recipes.PERMUTED_RECIPES),
    buffer=IMAGES_BUFFER,
)
STREAMS = DataKind(streams.STRATEGIES, tuple(streams.STRATEGIES), streams.by_path, buffer=0)


def set_of(name: str) -> Set:
    """Returns the set of that name; any other name is a folder of texts."""
    return SETS[name] if name in SETS else Set(TEXTS, partial(_texts, name))


def _texts(name: str, data: Path | None, split: str) -> Benchmark[Texts]:
    stream = load(name, data, split=split)
    train = chain.from_iterable(stage.train for stage in stream.stages)
    classes = tuple(dict.fromkeys(item.label for item in train))
    ids = {label: index for index, label in enumerate(classes)}
    stages = (Stage(stage.name, _part(stage.train, ids), _part(stage.test, ids)) for stage in stream.stages)
    return Benchmark(name, classes, tuple(stages))


def _few(shots: int, data: Path | None, split: str) -> Benchmark[Texts]:
    """Loads all classes as one stage, with `shots` texts each (the published draw), tested on the whole split.

    All other training texts are there without their labels.
    """
    whole = load(CLINC150, data, split=split)
    train = fewshot(shots, data)
    classes = tuple(dict.fromkeys(item.label for item in train))
    ids = {label: index for index, label in enumerate(classes)}
    test = list(chain.from_iterable(stage.test for stage in whole.stages))
    drawn = {item.text for item in train}
    all_train = chain.from_iterable(stage.train for stage in whole.stages)
    others = [item.text for item in all_train if item.text not in drawn]
    stage = Stage(f"{shots} texts a class", _part(train, ids), _part(test, ids))
    return Benchmark(f"{CLINC150}-{shots}-shot", classes, (stage,), unlabelled=others)


def _of_test(make: Callable[[Path | None], Benchmark[Tensor]], data: Path | None, split: str) -> Benchmark[Tensor]:
    """Loads a benchmark that has test items alone. Raises DataError for another split."""
    if split != SPLITS[0]:
        raise DataError(f"there is no split {split!r} of this data set: say {SPLITS[0]}")
    return make(data)


def _part(items: Sequence[StreamItem], ids: dict[str, int]) -> Part[Texts]:
    return Part([item.text for item in items], torch.tensor([ids[item.label] for item in items]))


SETS = {name: Set(TEXTS, partial(_texts, name)) for name in (CLINC150, SUPPORT)} | {
    **{f"{CLINC150}-{shots}-shot": Set(FEW, partial(_few, shots)) for shots in (5, 10)},
    SPLIT: Set(SPLIT_IMAGES, partial(_of_test, split_mnist)),
    PERMUTED: Set(PERMUTED_IMAGES, partial(_of_test, permuted_mnist)),
    **{name: Set(STREAMS, partial(_of_test, partial(series, table))) for name, table in TABLES.items()},
}
