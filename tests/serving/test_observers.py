"""Counters of a replica, and those of one of its tasks."""

import msgspec

from serving.observers import AnswerCounts, Counts, task_counter, task_counts
from serving.queue import Batch
from tests.serving.versions import live_versions
from tests.wire.samples import answer_to


def test_each_task_has_counts_of_its_own() -> None:
    counts = Counts()
    counts.add("batches")
    for task in ("", "queue", "urgency", "urgency"):
        counts.add(task_counter(task, "answers_int8"))
    found = counts.snapshot()
    assert task_counts("", found) == {"batches": 1, "answers_int8": 1}
    assert task_counts("urgency", found) == {"answers_int8": 2}
    assert task_counts("other", found) == {}


def test_refused_answers_are_counted() -> None:
    counts = Counts()
    given = answer_to("e")
    refused = msgspec.structs.replace(given, refused=True)
    AnswerCounts(counts).batch_ended(Batch([], 0.0, []), {"": live_versions([1])}, [refused, given, refused], 0.0)
    assert counts.snapshot()["answers_refused"] == 2
