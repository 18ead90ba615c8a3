"""Measures prequentially, test then train (Dawid 1984): every row is first predicted, then learnt with its label.

    for each row in the order of time: predict_many(row) -> right or wrong -> learn_many(row)

A stream's stages are spans of time, and each is its own test: no row is learnt before it is predicted. The matrix of
the run has one row, with the accuracy in each span. Where spans are equally long, their mean is the prequential
accuracy.
"""

from evals.continual.contender import Contender
from evals.continual.runner import Run, RunChoice, Say, seconds_to_learn
from evals.streams.benchmark import Benchmark, X


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
