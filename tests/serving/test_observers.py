"""Counters of a replica, and those of one of its tasks."""

from serving.observers import Counts, count_of, counts_of


def test_each_task_has_counts_of_its_own() -> None:
    counts = Counts()
    counts.add("batches")
    for task in ("", "queue", "urgency", "urgency"):
        counts.add(count_of(task, "answers_int8"))
    found = counts.snapshot()
    assert counts_of("", found) == {"batches": 1, "answers_int8": 1}
    assert counts_of("urgency", found) == {"answers_int8": 2}
    assert counts_of("other", found) == {}
