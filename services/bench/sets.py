"""The data sets of `lifelong bench learn` by name, and the strategies that each kind of them takes.

clinc150 (all, 5 or 10 shots), support, a folder -> texts
split-mnist, permuted-mnist -> images               elec2 -> streams
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from evals.continual import recipes, streams, texts
from evals.continual.avalanche import is_path
from evals.continual.runner import Method
from evals.streams.data import CLINC150, SUPPORT, fewshot, load
from evals.streams.images import PERMUTED, SPLIT, permuted_mnist, split_mnist
from evals.streams.stage import Benchmark, Part, Stage
from evals.streams.stream import StreamItem
from evals.streams.tabular import ELEC2, elec2
from learner.errors import DataError


@dataclass(frozen=True, slots=True)
class DataKind:
    """What can be measured on one kind of items. `defaults`: the strategies that run where none is named.

    `by_path` makes one of Avalanche's strategies; raises DataError.
    """

    strategies: dict[str, Method[Any]]
    defaults: tuple[str, ...]
    by_path: Callable[[str], Method[Any]]

    def named(self, name: str) -> Method[Any]:
        """The strategy of that name or import path. Raises DataError."""
        if is_path(name):
            return self.by_path(name)
        if name not in self.strategies:
            raise DataError(f"no strategy {name!r} here: there are {', '.join(self.strategies)}, avalanche-NAME")
        return self.strategies[name]


@dataclass(frozen=True, slots=True)
class Set:
    """A data set that has a name. `load` gets the folder of data sets; raises DataError."""

    kind: DataKind
    load: Callable[[Path | None], Benchmark[Any]]


TEXTS = DataKind(texts.STRATEGIES, ("lifelong", "naive", "joint", "ridge", "avalanche-replay"), texts.by_path)
FEW = DataKind(texts.STRATEGIES, ("lifelong", "ridge", "ncm", "lda"), texts.by_path)
SPLIT_IMAGES, PERMUTED_IMAGES = (
    DataKind(recipes.for_images(it), ("naive", "er", ours, "joint"), partial(recipes.for_images_by_path, it))
    for it, ours in ((recipes.SPLIT_RECIPES, "der-ace"), (recipes.PERMUTED_RECIPES, "der++"))
)
STREAMS = DataKind(streams.STRATEGIES, tuple(streams.STRATEGIES), streams.by_path)


def set_of(name: str) -> Set:
    """The set of that name; any other name is a folder of texts."""
    return SETS[name] if name in SETS else Set(TEXTS, partial(_texts, name))


def _texts(name: str, data: Path | None) -> Benchmark[list[str]]:
    stream = load(name, data)
    classes = tuple(dict.fromkeys(item.label for stage in stream.stages for item in stage.train))
    ids = {label: place for place, label in enumerate(classes)}
    stages = (Stage(it.name, _part(it.train, ids), _part(it.test, ids)) for it in stream.stages)
    return Benchmark(name, classes, tuple(stages))


def _few(shots: int, data: Path | None) -> Benchmark[list[str]]:
    """All classes at once with a few texts each, in the usual draw, and all other training texts without their labels;
    the test items are those of the whole set.
    """
    whole = load(CLINC150, data)
    train = fewshot(shots, data)
    classes = tuple(dict.fromkeys(item.label for item in train))
    ids = {label: place for place, label in enumerate(classes)}
    test = [item for stage in whole.stages for item in stage.test]
    drawn = {item.text for item in train}
    others = [item.text for stage in whole.stages for item in stage.train if item.text not in drawn]
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
