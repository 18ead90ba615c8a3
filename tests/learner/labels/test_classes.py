"""B16: junk names neither fill the rows for good, nor keep out a class that is meant."""

from dataclasses import replace

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.config import ReplayPolicy
from learner.labels.classes import OTHERS, Classes, ClassesState, completed
from learner.learner import Learner
from learner.slow.round import Phase
from learner.state.snapshot import decode, encode
from tests.learner.small import small_learner
from tests.learner.streams import answer, feedback, label_of
from tests.learner.test_learner import assert_same, copy_of
from wire.records import Answer, Feedback

CAPACITY = 8
MIN_LABELS = 4


def classes(labels: dict[str, int], *, state: ClassesState | None = None) -> Classes:
    it = Classes(3, min_labels=3, state=state)
    for label, num in labels.items():
        said(it, label, num)
    return it


def said(it: Classes, label: str, times: int = 1) -> list[str]:
    """Say a label some times; what it may drive out then."""
    for _ in range(times):
        it.say(label)
        if label not in it and not it.is_full:
            it.admit(label)
    return [] if label in it else it.weaker(label)


def test_a_class_has_a_row_at_once_while_there_are_rows() -> None:
    it = classes({"a": 1, "b": 5, "c": 2})
    assert it.is_full and all(label in it for label in "abc") and it.num_provisional == 2


def test_a_class_drives_out_the_weakest_that_has_fewer_labels() -> None:
    """B16: the longest silent first of those that have as many."""
    it = classes({"a": 1, "b": 1, "c": 5})
    assert said(it, "d") == []
    it.say("a")
    it.say("b")
    it.say("a")
    assert said(it, "d") == [] and said(it, "d") == ["b"]
    assert it.evict("b") == 2
    it.admit("d")
    assert "d" in it and "b" not in it and said(it, "b", 2) == []


def test_what_has_enough_labels_is_never_driven_out() -> None:
    """B16."""
    it = classes({"a": 3, "b": 3, "c": 3})
    assert it.num_provisional == 0 and said(it, "d", 1_000) == []


def test_labels_of_classes_without_a_row_are_counted_for_a_bounded_number_of_them() -> None:
    """B16: a class that is said twice among ten thousand names is known to have been said before."""
    it = classes({"a": 1, "b": 1, "c": 1})
    said(it, "d")
    for number in range(10_000):
        assert said(it, f"junk {number}") == []
    assert said(it, "d") == ["a", "b", "c"]
    for number in range(OTHERS + 10):
        it.say(f"more {number}")
    assert len(it.export().others) == OTHERS


def test_full_rows_are_an_alarm_once_a_class_is_refused() -> None:
    it = classes({"a": 1, "b": 5, "c": 5})
    assert list(it.alarms()) == []
    said(it, "d")
    (alarm,) = it.alarms()
    assert alarm.startswith("all 3 classes are taken, 1 by provisional ones: labels of 1 others are not learnt")


def test_the_samples_of_a_class_stand_for_labels_that_were_not_counted() -> None:
    """A checkpoint from before classes were counted."""
    state = completed(ClassesState(), {"a": 7, "b": 1})
    assert state.labels == {"a": 7, "b": 1}
    assert completed(ClassesState(labels={"b": 4, "gone": 9}), {"a": 7, "b": 1}).labels == {"b": 4, "a": 7}


def pair(number: int, label: str) -> list[Answer | Feedback]:
    return [answer(number), feedback(number, label=label)]


def flooded(**changed: float | str) -> Learner:
    """All rows are taken, five by classes that are meant and three by junk; much more junk has come since."""
    it = small_learner(held_back_share=0.0, class_min_labels=MIN_LABELS, **changed)
    for number in range(40):
        it.learn(pair(number, label_of(number)), {})
    for number in range(40, 140):
        it.learn(pair(number, f"junk {number}"), {})
    return it


def test_a_flood_of_names_neither_keeps_out_a_class_that_is_meant_nor_drives_one_out() -> None:
    """B16: 100 names for 3 rows; the second label of a true class is learnt."""
    it = flooded(trainable_layers=0)
    known = set(it.tier.head.classes)
    assert known == {*map(label_of, range(5)), "junk 40", "junk 41", "junk 42"} and it.counts["over_capacity"] == 97
    it.learn(pair(200, "complaint"), {})
    assert "complaint" not in it.tier.head.classes
    it.learn(pair(201, "complaint"), {})
    assert set(it.tier.head.classes) == known - {"junk 40"} | {"complaint"}
    assert (it.counts["classes_evicted"], it.counts["labels_evicted"]) == (1, 1)
    assert it.join.counts["matched"] == it.counts["learnt"] + it.counts["over_capacity"]
    for number in range(1_000, 1_200):
        it.learn(pair(number, f"more junk {number}"), {})
    assert "complaint" in it.tier.head.classes and it.counts["classes_evicted"] == 1


@pytest.mark.parametrize("policy", ["class-balanced", "reservoir", "experience-balanced"])
def test_the_sums_of_an_evicted_class_go_out_bit_for_bit(policy: ReplayPolicy) -> None:
    """B16: what is left is a learner that never saw it, with another class in its row."""
    it, other = (small_learner(held_back_share=0.0, trainable_layers=0, replay_policy=policy) for _ in range(2))
    names = ["junk", *(f"class {number}" for number in range(7))]
    for number in range(24):
        name = names[number % 8] if number > 8 else names[number % 7 + 1]
        it.learn(pair(number, names[number % 8]), {})
    labels = [(number, names[number % 8]) for number in range(24)]
    more = [(number, "complaint") for number in range(24, 29)]
    for number, name in more:
        it.learn(pair(number, name), {})
    for number, name in (*((number, name) for number, name in labels if name != "junk"), *more[3:]):
        other.learn(pair(number, name), {})
    assert it.counts["classes_evicted"] == 1 and it.tier.head.classes[0] == "complaint"
    assert sorted(it.replay.samples()) == sorted(other.replay.samples())
    order = [it.tier.head.classes.index(label) for label in other.tier.head.classes]
    mine = it.tier.export()
    theirs = other.tier.export()
    assert torch.equal(mine["gram"], theirs["gram"])
    assert all(torch.equal(mine[name][order], theirs[name]) for name in ("class", "counts", "z"))


def test_nothing_of_an_evicted_class_is_held() -> None:
    """B16: memory, held-back and fresh samples go, too."""
    it = small_learner(held_back_share=0.4, trainable_layers=0, class_min_labels=20)
    number = 0
    while it.counts["classes_evicted"] == 0:
        it.learn(pair(number, f"class {number // 12 % 9}" if number < 96 else "complaint"), {})
        number += 1
        assert number < 200
    gone = {f"class {number}" for number in range(8)} - set(it.tier.head.classes)
    assert len(gone) == 1 and it.lineage.gap
    for memory in (it.replay, it.fresh, it.holdout.samples):
        assert not gone & {sample.label for sample in memory.samples()}
        assert not gone & memory.export().groups.keys()


def test_a_class_whose_samples_the_memory_has_dropped_stays() -> None:
    """B16: what cannot be taken out exactly is not taken out."""
    it = small_learner(held_back_share=0.0, trainable_layers=0, replay_samples=8, learn_names=True)
    for number in range(40):
        it.learn(pair(number, f"class {number % 8}"), {})
    for number in range(40, 60):
        it.learn(pair(number, "complaint"), {})
    assert it.counts["classes_evicted"] == 0 and it.counts["over_capacity"] == 20


@pytest.mark.parametrize("phase", [Phase.TRAIN, Phase.REBUILD, Phase.MEASURE])
def test_a_class_that_is_evicted_during_a_round_is_unknown_to_the_next_encoder(phase: Phase) -> None:
    """B16."""
    it = flooded(slow_rate=1e-5, slow_every_labels=30)
    it.tick()
    while it.round is not None and it.round.phase is not phase:
        it.tick()
    assert it.round is not None
    if phase is Phase.REBUILD:
        it.tick()
    for number in range(200, 203):
        it.learn(pair(number, "complaint"), {})
    while it.has_work:
        it.tick()
    assert it.counts["rounds_adopted"] == 1 == it.counts["classes_evicted"]
    assert "complaint" in it.tier.head.classes and "junk 40" not in it.tier.head.classes
    again = it.tier.successor(it.tier.served)
    again.relearn(it.replay.samples())
    assert all(torch.equal(value, it.tier.export()[name]) for name, value in again.export().items())


def test_a_restored_learner_evicts_the_same_classes() -> None:
    """B16: bit for bit."""
    whole = flooded(trainable_layers=0)
    restored = copy_of(whole, trainable_layers=0, held_back_share=0.0, class_min_labels=MIN_LABELS)
    for number in range(200, 240):
        for it in (whole, restored):
            it.learn(pair(number, f"class {number % 7}"), {})
    assert whole.counts["classes_evicted"] > 1
    assert_same(whole, restored)


def test_a_checkpoint_from_before_classes_were_counted_is_read() -> None:
    snapshot = flooded(trainable_layers=0).export(None)
    old = replace(snapshot, facts=msgspec.structs.replace(snapshot.facts, support=ClassesState()))
    it = small_learner(trainable_layers=0)
    it.restore(decode(encode(old)))
    assert it.classes.export().labels == it.tier.head.num_by_class and it.classes.num_provisional == 8


LABELS = st.lists(st.integers(0, 11).map(lambda number: f"class {number}"), min_size=30, max_size=60)


@settings(max_examples=10, deadline=None)
@given(LABELS, st.lists(st.integers(1, 9), min_size=1))
def test_how_labels_are_batched_changes_nothing(labels: list[str], sizes: list[int]) -> None:
    """B16: a restart reads other batches."""
    whole, parts = (small_learner(trainable_layers=0, held_back_share=0.2, class_min_labels=MIN_LABELS) for _ in "ab")
    records = [record for number, label in enumerate(labels) for record in pair(number, label)]
    whole.learn(records, {})
    taken = 0
    for turn in range(len(records)):
        size = sizes[turn % len(sizes)]
        parts.learn(records[taken : taken + size], {})
        taken += size
    mine = decode(encode(whole.export(None)))
    theirs = decode(encode(parts.export(None)))
    assert mine.facts.support == theirs.facts.support and +whole.counts == +parts.counts
    assert mine.facts.classes == theirs.facts.classes
    assert all(torch.equal(value, theirs.tensors[name]) for name, value in mine.tensors.items())
    assert whole.join.counts["matched"] == sum(whole.counts[end] for end in ("learnt", "held_back", "over_capacity"))
