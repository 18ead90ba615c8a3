"""What operators do to classes of sets: afterwards the learner is one that was given the new names from the start."""

import pytest
import torch

from learner.errors import StateRefused
from learner.learner import Learner
from learner.relabelling import follow_settings, relabel
from lifelong.plugins.kinds.sets import unpack_names
from tests.learner.small_learner import hold, small_learner
from tests.learner.streams import TOPICS, answer
from wire.config import LabelConfig
from wire.records import Answer, Feedback, LabelAction, LabelCommand

SETS = LabelConfig(kind="multilabel")


def names_of_event(number: int) -> tuple[str, ...]:
    """Two topics, one, or none."""
    return (TOPICS[number % 5], TOPICS[number % 3])[: 2 - number % 7 % 3] if number % 11 else ()


def taught(first: int, last: int, new: dict[str, str] | None = None) -> Learner:
    """A learner of sets, by other names of the classes; without those that are named ""."""
    it = small_learner(learn_names=False)
    it.label_config = SETS
    follow_settings(it)
    return fed(it, first, last, new or {})


def fed(it: Learner, first: int, last: int, new: dict[str, str]) -> Learner:
    records = list[Answer | Feedback]()
    for number in range(first, last):
        labels = tuple(filter(None, (new.get(name, name) for name in names_of_event(number))))
        records += [answer(number, label=None), Feedback(event_id=f"event-{number}", labels=labels, time_ms=number)]
    it.learn_many(records, {"feedback.v1/0": last})
    return it


def follow(it: Learner, action: LabelAction, *labels: str, to: tuple[str, ...] = ()) -> dict[str, int]:
    command = LabelCommand(number=1, action=action, labels=labels, to=to, time_ms=10_000)
    hold(it, command)
    return relabel(it, command)


def assert_same(one: Learner, other: Learner) -> None:
    """Both know the same, but that a class may have another row."""
    classes = sorted(one.fast_head.ridge.classes)
    assert classes == sorted(other.fast_head.ridge.classes)
    sums = [it.fast_head.with_order(classes).export() for it in (one, other)]
    for name, values in sums[0].items():
        if not name.startswith("recent"):
            assert torch.equal(values.double(), sums[1][name].double()), name
    for memory in ("replay", "fresh"):
        held = [sorted(getattr(it.knowledge, memory).samples()) for it in (one, other)]
        assert held[0] == held[1], memory
    assert sorted(one.knowledge.holdout.samples.samples()) == sorted(other.knowledge.holdout.samples.samples())


def test_a_renamed_class_is_one_that_had_the_new_name_from_the_start() -> None:
    it = taught(0, 60)
    moved = follow(it, "rename", "refund", to=("money back",))
    assert_same(it, taught(0, 60, {"refund": "money back"}))
    assert moved["replay"] > 5
    fed(it, 60, 80, {})
    assert_same(it, taught(0, 80, {"refund": "money back"}))


def test_classes_that_become_one_count_once_where_an_event_has_both() -> None:
    it = taught(0, 60)
    both = [sample for sample in it.replay.samples() if {"refund", "delivery"} <= set(unpack_names(sample.label))]
    assert both
    follow(it, "merge", "refund", "delivery", to=("money",))
    assert_same(it, taught(0, 60, {"refund": "money", "delivery": "money"}))


def test_the_events_of_a_class_that_goes_stay_with_their_other_classes() -> None:
    it = taught(0, 60)
    num_samples = it.fast_head.ridge.num_samples
    follow(it, "retire", "refund")
    assert_same(it, taught(0, 60, {"refund": ""}))
    assert it.fast_head.ridge.num_samples == num_samples == len(it.replay)
    assert "refund" not in it.knowledge.classes


def test_the_words_of_a_name_are_those_of_the_new_one() -> None:
    it = small_learner()
    it.label_config = SETS
    follow_settings(it)
    fed(it, 0, 30, {})
    assert {"refund", "opening hours"} <= {sample.text for sample in it.replay.samples() if not sample.event}
    follow(it, "rename", "refund", to=("money_back",))
    words = {sample.text for sample in it.replay.samples() if not sample.event}
    assert "money back" in words and "refund" not in words
    assert it.fast_head.ridge.num_samples == len(it.replay)


def test_what_was_learnt_under_one_kind_is_refused_under_another_with_the_fix() -> None:
    it = taught(0, 20)
    it.label_config = LabelConfig()
    with pytest.raises(
        StateRefused, match=r"labels\.kind is class, but the learnt labels are of kind multilabel: set it"
    ):
        follow_settings(it)
    with pytest.raises(StateRefused, match=r"another learner\.state_dir"):
        small_learner().restore(it.export(None))
