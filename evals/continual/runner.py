"""Runs one contender over a benchmark, by one of two evaluation protocols.

    by stages       for each stage: learn its items in one pass -> test all stages so far -> a row of the matrix
                    after the last stage: the contender's work for idle times -> the last row again
    prequential     for each row in the order of time: predict_many(row) -> right or wrong -> learn_many(row)

Joint training is the first protocol with all stages as one. It is the upper bound for a contender of the same budget.
Prequential evaluation is test-then-train (Dawid 1984). The stages of such a stream are spans of time, each item is
tested before it is learnt, and the matrix has one row with the accuracy in each span. If the spans are equally long,
their mean is the prequential accuracy.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeAlias

import torch

from evals.continual.contender import Contender, Usage
from evals.continual.measures import Row
from evals.streams.benchmark import Benchmark, Part, X, joined
from evals.streams.stream import Stage
from learner.config import LearnerConfig

Say: TypeAlias = Callable[[str, Row], None]
"""A function that gets the name of a stage that was learnt, and the row of accuracies after it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunChoice:
    """The options of one run."""

    seed: int
    buffer: int
    """The most samples that a contender may store."""
    passes: float
    """The number of sample gradients for each training item, for contenders that are trained by gradient. 0 means one
    epoch of their recipe."""
    learner: LearnerConfig
    """The settings of the service's learner, which contenders for texts use."""
    encoder: str
    """The pretrained encoder, which contenders for texts use."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """The measurements of one contender."""

    matrix: tuple[Row, ...]
    row_before_idle: Row
    """The last row before the contender did its work for idle times."""
    num_items: int
    """The number of training items."""
    seconds: float
    """The time to learn them, without predictions."""
    usage: Usage


def by_stage(benchmark: Benchmark[X], contender: Contender[X], choice: RunChoice, say: Say) -> Run:
    """Learns stage after stage, and tests all stages so far after each of them."""
    matrix = list[Row]()
    seconds = 0.0
    for number, stage in enumerate(benchmark.stages, start=1):
        seconds += seconds_to_learn(contender, stage.train)
        matrix.append(_row(contender, benchmark.stages[:number]))
        say(stage.name, matrix[-1])
    return _finished(benchmark, contender, matrix, seconds, say)


def all_at_once(benchmark: Benchmark[X], contender: Contender[X], choice: RunChoice, say: Say) -> Run:
    """Learns all stages as one, shuffled. The matrix has one row."""
    whole = joined([stage.train for stage in benchmark.stages], _order(benchmark.num_items, choice.seed))
    seconds = seconds_to_learn(contender, whole)
    row = _row(contender, benchmark.stages)
    say("all stages", row)
    return _finished(benchmark, contender, [row], seconds, say)


@dataclass(frozen=True, slots=True)
class Method(Generic[X]):
    """A way to measure a strategy: a factory of contenders, and the protocol by which a contender is measured."""

    make: Callable[[Benchmark[X], RunChoice], Contender[X]]
    measure: Callable[[Benchmark[X], Contender[X], RunChoice, Say], Run] = by_stage


def accuracy(contender: Contender[X], part: Part[X]) -> float:
    """Returns the percentage of the items that the contender classifies correctly."""
    right_N = contender.predict_many(part.inputs) == part.labels_N
    return 100.0 * float(right_N.float().mean())


def shuffle_stages(benchmark: Benchmark[X], seed: int) -> Benchmark[X]:
    """Returns the benchmark with the training items shuffled within each stage.

    The order depends only on `seed` and the number of the stage. A benchmark in the order of time is returned as it is.
    """
    if benchmark.is_ordered:
        return benchmark
    stages = tuple(
        Stage(stage.name, joined([stage.train], _order(len(stage.train), 1_000 * seed + number)), stage.test)
        for number, stage in enumerate(benchmark.stages)
    )
    return replace(benchmark, stages=stages)


def flip_labels(benchmark: Benchmark[X], share: float, seed: int) -> Benchmark[X]:
    """Returns the benchmark with a random `share` of the training labels replaced by other classes.

    All other classes are equally likely.
    """
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
    """Lets the contender learn, and returns the seconds that it took."""
    start_s = time.perf_counter()
    contender.learn_many(part)
    return time.perf_counter() - start_s


def _finished(benchmark: Benchmark[X], contender: Contender[X], matrix: Sequence[Row], seconds: float, say: Say) -> Run:
    """Lets the contender do its work for idle times, and tests it again if there was any."""
    *earlier, last = matrix
    start_s = time.perf_counter()
    did_something = contender.do_idle_work()
    seconds += time.perf_counter() - start_s
    final = last
    if did_something:
        final = _row(contender, benchmark.stages)
        say("idle time", final)
    return Run(
        matrix=(*earlier, final),
        row_before_idle=last,
        num_items=benchmark.num_items,
        seconds=seconds,
        usage=contender.usage,
    )


def _row(contender: Contender[X], stages: Sequence[Stage[Part[X]]]) -> Row:
    return tuple(accuracy(contender, stage.test) for stage in stages)


def _order(num_items: int, seed: int) -> torch.Tensor:
    return torch.randperm(num_items, generator=torch.Generator().manual_seed(seed))


def prequential(benchmark: Benchmark[X], contender: Contender[X], choice: RunChoice, say: Say) -> Run:
    """Predicts and learns row by row, from the first span of time to the last."""
    accuracies = list[float]()
    seconds = 0.0
    for span in benchmark.stages:
        num_right = 0
        for row, label in zip(span.train.batches(1), span.test.labels_N.tolist(), strict=True):
            num_right += int(contender.predict_many(row.inputs)) == label
            seconds += seconds_to_learn(contender, row)
        accuracies.append(100.0 * num_right / len(span.train))
        say(span.name, tuple(accuracies))
    last = tuple(accuracies)
    return Run(
        matrix=(last,),
        row_before_idle=last,
        num_items=benchmark.num_items,
        seconds=seconds,
        usage=contender.usage,
    )
