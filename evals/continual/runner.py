"""Runs one contender over the stages of a benchmark.

    for each stage: learn its items in one pass -> test all stages so far -> a row of the matrix

Joint training, the usual upper bound, is the same with all stages as one.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeAlias

import torch

from evals.continual.measures import Row
from evals.streams.benchmark import Benchmark, Contender, Part, X, joined
from evals.streams.stage import Stage
from learner.config import LearnerConfig

Say: TypeAlias = Callable[[str, Row], None]
"""Gets the name of the stage that was learnt, and the row measured after it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunChoice:
    """The options of one run."""

    seed: int
    buffer: int | None
    """How many samples a strategy may store; None: its own default."""
    learner: LearnerConfig
    """The settings of the service, which text strategies use; so is `encoder`."""
    encoder: str


@dataclass(frozen=True, slots=True)
class Run:
    """The measurements of one contender."""

    matrix: tuple[Row, ...]
    ms_per_label: float
    """Milliseconds to learn an item, predictions left out."""
    buffer_bytes: int


def by_stage(benchmark: Benchmark[X], contender: Contender[X], choice: RunChoice, say: Say) -> Run:
    """Learns stage after stage; after each, tests all that were learnt."""
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
    """Learns all stages as one, shuffled; the matrix has one row, of the end."""
    stages = benchmark.stages
    num_items = sum(len(stage.train) for stage in stages)
    whole = joined([stage.train for stage in stages], _order(num_items, choice.seed))
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
    """Returns the percentage of the items that the contender classifies correctly."""
    right_N = contender.predict_many(part.inputs) == part.labels_N
    return 100.0 * float(right_N.float().mean())


def shuffled(benchmark: Benchmark[X], seed: int) -> Benchmark[X]:
    """Shuffles the training items inside each stage; the order depends on `seed` and the stage's number alone.

    A benchmark in the order of time is returned as it is.
    """
    if benchmark.is_ordered:
        return benchmark
    stages = tuple(
        Stage(stage.name, joined([stage.train], _order(len(stage.train), 1_000 * seed + place)), stage.test)
        for place, stage in enumerate(benchmark.stages)
    )
    return replace(benchmark, stages=stages)


def flipped(benchmark: Benchmark[X], share: float, seed: int) -> Benchmark[X]:
    """Replaces a `share` of the training labels by another class of the benchmark, each equally likely."""
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
    """Lets the contender learn; returns how long that took."""
    start_s = time.perf_counter()
    contender.learn_many(part)
    return time.perf_counter() - start_s


def _order(num_items: int, seed: int) -> torch.Tensor:
    return torch.randperm(num_items, generator=torch.Generator().manual_seed(seed))
