"""Parts of a data set: their batches, and how they are joined."""

import torch

from evals.streams.benchmark import Benchmark, Part, joined
from evals.streams.stream import Stage

TEXTS = Part(["a", "b", "c"], torch.tensor([0, 1, 2]))


def test_batches_keep_the_order_and_the_last_may_be_smaller() -> None:
    batches = TEXTS.batches(2)
    assert [batch.inputs for batch in batches] == [["a", "b"], ["c"]]
    assert [batch.labels_N.tolist() for batch in batches] == [[0, 1], [2]]


def test_parts_are_joined_and_permuted() -> None:
    more = Part(["d"], torch.tensor([3]))
    both = joined([TEXTS, more], torch.tensor([3, 0, 2, 1]))
    assert both.inputs == ["d", "a", "c", "b"]
    assert both.labels_N.tolist() == [3, 0, 2, 1]


def test_rows_are_joined_and_permuted_too() -> None:
    rows = Part(torch.arange(3)[:, None], torch.tensor([0, 1, 2]))
    both = joined([rows, rows], torch.tensor([5, 0]))
    assert both.inputs.tolist() == [[2], [0]]


def test_only_training_items_are_counted() -> None:
    benchmark = Benchmark("made", ("x", "y", "z"), (Stage("one", TEXTS, TEXTS), Stage("two", TEXTS, TEXTS)))
    assert benchmark.num_items == 6
