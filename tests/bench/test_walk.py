"""The walk: which functions count, and how many files and functions run for an event and for labels."""

from pathlib import Path

from bench.walk import Walk, by_room, in_one_process, watching
from wire.timestamps import now_ms


def test_a_function_of_ours_counts_once_and_others_do_not() -> None:
    walk = Walk()
    with watching(walk):
        by_room(["bench is no room that is shipped"])
        current_ms = now_ms()
        with walk.open():
            by_room([str(now_ms()), str(now_ms() - current_ms)])
    assert walk.functions() == {("wire/timestamps.py", "now_ms")}
    assert walk.functions("wire") == walk.functions()
    assert walk.files("serving") == set()


def test_files_are_counted_by_room() -> None:
    assert by_room(["learner/process.py", "learner.process", "wire/store/store.py"]) == {"wire": 1, "learner": 2}


def test_an_event_and_labels_run_through_their_rooms(tmp_path: Path) -> None:
    """The bounds are today's numbers. They may only be lowered."""
    counted = {row.name: row.calls[0].value or 0 for row in in_one_process(tmp_path)}
    assert 5 < counted["walk.event.serving_files"] <= 10
    assert counted["walk.event.files"] <= 30
    assert counted["walk.event.functions"] <= 115
    assert 10 < counted["walk.labels.learner_files"] <= 36
    assert counted["walk.labels.files"] <= 105
    assert counted["walk.labels.functions"] <= 710
