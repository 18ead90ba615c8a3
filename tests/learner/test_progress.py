"""The numbers that the learner decides by."""

import copy

import msgspec
import pytest

from learner.progress import LearnerProgress


def test_labels_are_effects_and_no_breaks() -> None:
    progress = LearnerProgress()
    progress.learn(["a", "b", "c"])
    progress.break_off()
    assert (progress.num_labels, progress.num_effects, progress.num_breaks) == (3, 4, 1)


@pytest.mark.parametrize("num_since", [0, 30])
def test_who_goes_back_keeps_its_rounds_and_effects_and_leaves_the_journal(num_since: int) -> None:
    known = LearnerProgress(
        num_labels=70, num_effects=71, num_rounds=2, round_at=60, rehearsed_at=50, pseudo_labelled_at=40
    )
    progress = copy.copy(known)
    progress.learn(["a"] * num_since)
    progress.round_at = progress.num_labels
    progress.num_rounds = 3
    assert progress.go_back(known) == num_since
    changed = {"num_effects": 71 + num_since, "num_breaks": 1, "num_rounds": 3}
    assert progress == msgspec.structs.replace(known, **changed)


def test_it_becomes_what_was_saved() -> None:
    progress = LearnerProgress()
    saved = LearnerProgress(**{name: number for number, name in enumerate(LearnerProgress.__struct_fields__, 1)})
    progress.restore(saved)
    assert progress == saved and progress is not saved
