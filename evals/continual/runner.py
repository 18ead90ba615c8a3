"""One contender over the stages of a benchmark.

    for each stage: learn its items in one pass -> test all stages so far -> a row of the matrix

Joint training, the usual upper bound, is the same with all stages as one.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeAlias

import torch

from evals.continual.measures import Row
from evals.streams.stage import Benchmark, Contender, Part, Stage, X, joined
from learner.config import LearnerConfig

Say: TypeAlias = Callable[[str, Row], None]
"""Is told the name of what was learnt, and the row measured after it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunChoice:
    """What one run was asked for. `buffer`: samples that may be kept; None: as many as the strategy takes by itself.

    `learner` and `encoder` are the settings of the service, which text strategies go by.
    """

    seed: int
    buffer: int | None
    learner: LearnerConfig
    encoder: str


@dataclass(frozen=True, slots=True)
class Run:
    """What one contender came to. `ms_per_label`: time to learn an item, predictions left out."""

    matrix: tuple[Row, ...]
    ms_per_label: float
    buffer_bytes: int


def by_stage(benchmark: Benchmark[X], contender: Contender[X], choice: RunChoice, say: Say) -> Run:
    """Learn stage after stage; after each, test all that were learnt."""
    matrix = list[Row]()
    seconds = 0.0
    num_labels = 0
    for number, stage in enumerate(benchmark.stages, start=1):
        seconds += seconds_to_learn(contender, stage.train)
        num_labels += len(stage.train)
        matrix.append(tuple(accuracy(contender, seen.test) for seen in benchmark.stages[:number]))
        say(stage.name, matrix[-1])
    return Run(tuple(matrix), 1e3 * seconds / num_labels, contender.num_bytes)


def all_at_once(benchmark: Benchmark[X], contender: Contender[X], choice: RunChoice, say: Say) -> Run:
    """Learn all stages as one, shuffled; the matrix has the one row of the end."""
    stages = benchmark.stages
    whole = joined([stage.train for stage in stages], _order(sum(len(stage.train) for stage in stages), choice.seed))
    seconds = seconds_to_learn(contender, whole)
    row = tuple(accuracy(contender, stage.test) for stage in stages)
    say("all stages", row)
    return Run((row,), 1e3 * seconds / len(whole), contender.num_bytes)


@dataclass(frozen=True, slots=True)
class Method(Generic[X]):
    """How a contender is made for a benchmark, and how it is measured."""

    make: Callable[[Benchmark[X], RunChoice], Contender[X]]
    measure: Callable[[Benchmark[X], Contender[X], RunChoice, Say], Run] = by_stage


def accuracy(contender: Contender[X], part: Part[X]) -> float:
    """Percent of the items that the contender names rightly."""
    right_N = contender.predict_many(part.inputs) == part.labels_N
    return 100.0 * float(right_N.float().mean())


def shuffled(benchmark: Benchmark[X], seed: int) -> Benchmark[X]:
    """The same stages, each with its training items in an order that depends on `seed` and its place alone.

    What is ordered stays so.
    """
    if benchmark.is_ordered:
        return benchmark
    stages = tuple(
        Stage(stage.name, joined([stage.train], _order(len(stage.train), 1_000 * seed + place)), stage.test)
        for place, stage in enumerate(benchmark.stages)
    )
    return replace(benchmark, stages=stages)


def flipped(benchmark: Benchmark[X], share: float, seed: int) -> Benchmark[X]:
    """The same items, but a `share` of the training labels names another class of all, each equally likely."""
    rng = torch.Generator().manual_seed(seed)
    num_classes = len(benchmark.classes)
    stages = []
    for stage in benchmark.stages:
        labels_N = stage.train.labels_N
        other_N = (labels_N + torch.randint(1, num_classes, labels_N.shape, generator=rng)) % num_classes
        is_flipped_N = torch.rand(labels_N.shape, generator=rng) < share
        train = Part(stage.train.inputs, torch.where(is_flipped_N, other_N, labels_N))
        stages.append(Stage(stage.name, train, stage.test))
    return replace(benchmark, stages=tuple(stages))


def seconds_to_learn(contender: Contender[X], part: Part[X]) -> float:
    """Let the contender learn; how long it took."""
    start_s = time.perf_counter()
    contender.learn_many(part)
    return time.perf_counter() - start_s


def _order(num_items: int, seed: int) -> torch.Tensor:
    return torch.randperm(num_items, generator=torch.Generator().manual_seed(seed))
