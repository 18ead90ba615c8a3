"""Junk names neither take the rows permanently nor keep out true classes."""

from dataclasses import replace

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.config import ReplayPolicy
from learner.fast.rows import MAX_OTHERS, Classes, ClassesState, backfill_label_counts
from learner.learner import Learner
from learner.rounds.round import Phase
from learner.state.snapshot import decode, encode
from tests.learner.small_learner import small_learner
from tests.learner.streams import answer, feedback, label_of
from tests.learner.test_learner import assert_same, copy_learner
from wire.records import Answer, Feedback

CAPACITY = 8
MIN_LABELS = 4


def make_classes(labels: dict[str, int], *, state: ClassesState | None = None) -> Classes:
    classes = Classes(3, min_labels=3, state=state)
    for label, num in labels.items():
        weaker_after(classes, label, num)
    return classes


def weaker_after(classes: Classes, label: str, times: int = 1) -> list[str]:
    """Counts a label `times` times; returns the classes that it may evict then."""
    for _ in range(times):
        classes.count_label(label)
        if label not in classes and not classes.is_full:
            classes.admit(label)
    return [] if label in classes else classes.weaker(label)


def test_a_class_has_a_row_at_once_while_there_are_rows() -> None:
    classes = make_classes({"a": 1, "b": 5, "c": 2})
    assert all(label in classes for label in "abc")
    assert classes.is_full
    assert classes.num_provisional == 2


def test_a_class_evicts_the_weakest_class_with_fewer_labels() -> None:
    """Among classes with equally many labels, the least recently labelled one is evicted first."""
    classes = make_classes({"a": 1, "b": 1, "c": 5})
    assert weaker_after(classes, "d") == []
    classes.count_label("a")
    classes.count_label("b")
    classes.count_label("a")
    assert weaker_after(classes, "d") == []
    assert weaker_after(classes, "d") == ["b"]
    assert classes.evict("b") == 2
    classes.admit("d")
    assert "d" in classes
    assert "b" not in classes
    assert weaker_after(classes, "b", 2) == []


def test_a_class_with_enough_labels_is_never_evicted() -> None:
    classes = make_classes({"a": 3, "b": 3, "c": 3})
    assert classes.num_provisional == 0 and weaker_after(classes, "d", 1_000) == []


def test_labels_of_classes_without_a_row_are_counted_for_a_bounded_number_of_them() -> None:
    """The first label of a class still counts if the second one comes ten thousand names later."""
    classes = make_classes({"a": 1, "b": 1, "c": 1})
    weaker_after(classes, "d")
    for number in range(10_000):
        assert weaker_after(classes, f"junk {number}") == []
    assert weaker_after(classes, "d") == ["a", "b", "c"]
    for number in range(MAX_OTHERS + 10):
        classes.count_label(f"more {number}")
    assert len(classes.export().others) == MAX_OTHERS


def test_full_rows_are_an_alarm_once_a_class_is_refused() -> None:
    classes = make_classes({"a": 1, "b": 5, "c": 5})
    assert list(classes.alarms()) == []
    weaker_after(classes, "d")
    (alarm,) = classes.alarms()
    assert alarm.startswith(
        "all 3 rows are taken, 1 of them by provisional classes: labels of 1 other classes are not learnt"
    )


def test_the_samples_of_a_class_stand_for_labels_that_were_not_counted() -> None:
    """The counts of a checkpoint from before classes were counted are filled in from its samples."""
    state = backfill_label_counts(ClassesState(), {"a": 7, "b": 1})
    assert state.labels == {"a": 7, "b": 1}
    assert backfill_label_counts(ClassesState(labels={"b": 4, "gone": 9}), {"a": 7, "b": 1}).labels == {"b": 4, "a": 7}


def pair(number: int, label: str) -> list[Answer | Feedback]:
    return [answer(number), feedback(number, label=label)]


def flooded(**changed: float | str) -> Learner:
    """Returns a learner whose rows are taken, five by true classes and three by junk; more junk has come since."""
    learner = small_learner(holdout_share=0.0, class_min_labels=MIN_LABELS, **changed)
    for number in range(40):
        learner.learn_many(pair(number, label_of(number)), {})
    for number in range(40, 140):
        learner.learn_many(pair(number, f"junk {number}"), {})
    return learner


def test_a_flood_of_names_neither_keeps_out_nor_evicts_true_classes() -> None:
    """100 names for 3 rows; the second label of a true class is learnt."""
    learner = flooded(trainable_layers=0)
    known = set(learner.fast_head.ridge.classes)
    assert known == {*map(label_of, range(5)), "junk 40", "junk 41", "junk 42"}
    assert learner.counts["over_capacity"] == 97
    learner.learn_many(pair(200, "complaint"), {})
    assert "complaint" not in learner.fast_head.ridge.classes
    learner.learn_many(pair(201, "complaint"), {})
    assert set(learner.fast_head.ridge.classes) == known - {"junk 40"} | {"complaint"}
    assert (learner.counts["classes_evicted"], learner.counts["labels_evicted"]) == (1, 1)
    assert learner.join.counts["matched"] == learner.counts["learnt"] + learner.counts["over_capacity"]
    for number in range(1_000, 1_200):
        learner.learn_many(pair(number, f"more junk {number}"), {})
    assert "complaint" in learner.fast_head.ridge.classes and learner.counts["classes_evicted"] == 1


@pytest.mark.parametrize("policy", ["class-balanced", "reservoir", "experience-balanced"])
def test_the_sums_of_an_evicted_class_go_out_bit_for_bit(policy: ReplayPolicy) -> None:
    """The learner then equals one that never saw the class, with another class in its row."""
    learner, other = (small_learner(holdout_share=0.0, trainable_layers=0, replay_policy=policy) for _ in range(2))
    names = ["junk", *(f"class {number}" for number in range(7))]
    labels = [(number, names[number % 8]) for number in range(24)]
    more = [(number, "complaint") for number in range(24, 29)]
    for number, name in labels + more:
        learner.learn_many(pair(number, name), {})
    without_junk = [(number, name) for number, name in labels if name != "junk"]
    for number, name in without_junk + more[3:]:
        other.learn_many(pair(number, name), {})
    assert learner.counts["classes_evicted"] == 1 and learner.fast_head.ridge.classes[0] == "complaint"
    assert sorted(learner.replay.samples()) == sorted(other.replay.samples())
    order = [learner.fast_head.ridge.classes.index(label) for label in other.fast_head.ridge.classes]
    mine = learner.fast_head.export()
    theirs = other.fast_head.export()
    assert torch.equal(mine["gram"], theirs["gram"])
    assert all(torch.equal(mine[name][order], theirs[name]) for name in ("class", "counts", "z"))


def test_nothing_of_an_evicted_class_is_kept() -> None:
    """Its samples are removed from the replay buffer, the holdout and the fresh samples."""
    learner = small_learner(holdout_share=0.4, trainable_layers=0, class_min_labels=20)
    number = 0
    while learner.counts["classes_evicted"] == 0:
        learner.learn_many(pair(number, f"class {number // 12 % 9}" if number < 96 else "complaint"), {})
        number += 1
        assert number < 200
    gone = {f"class {number}" for number in range(8)} - set(learner.fast_head.ridge.classes)
    assert len(gone) == 1 and learner.knowledge.lineage.gap
    for memory in (learner.replay, learner.knowledge.fresh, learner.knowledge.holdout.samples):
        assert not gone & {sample.label for sample in memory.samples()}
        assert not gone & memory.export().groups.keys()


def test_a_class_whose_samples_the_buffer_has_dropped_stays() -> None:
    """A class that cannot be unlearnt exactly is not evicted."""
    learner = small_learner(holdout_share=0.0, trainable_layers=0, replay_samples=8, learn_names=True)
    for number in range(40):
        learner.learn_many(pair(number, f"class {number % 8}"), {})
    for number in range(40, 60):
        learner.learn_many(pair(number, "complaint"), {})
    assert learner.counts["classes_evicted"] == 0 and learner.counts["over_capacity"] == 20


@pytest.mark.parametrize("phase", [Phase.TRAIN, Phase.REBUILD, Phase.COMPARE])
def test_a_class_that_is_evicted_during_a_round_is_unknown_to_the_next_encoder(phase: Phase) -> None:
    learner = flooded(slow_rate=1e-5, slow_every_labels=30)
    learner.tick()
    while learner.knowledge.round is not None and learner.knowledge.round.phase is not phase:
        learner.tick()
    assert learner.knowledge.round is not None
    if phase is Phase.REBUILD:
        learner.tick()
    for number in range(200, 203):
        learner.learn_many(pair(number, "complaint"), {})
    while learner.has_work:
        learner.tick()
    assert learner.counts["rounds_adopted"] == 1
    assert learner.counts["classes_evicted"] == 1
    assert "complaint" in learner.fast_head.ridge.classes and "junk 40" not in learner.fast_head.ridge.classes
    again = learner.fast_head.successor(learner.fast_head.served)
    again.relearn(learner.replay.samples())
    assert all(torch.equal(value, learner.fast_head.export()[name]) for name, value in again.export().items())


def test_a_restored_learner_evicts_the_same_classes() -> None:
    """The two learners are equal, bit for bit."""
    whole = flooded(trainable_layers=0)
    restored = copy_learner(whole, trainable_layers=0, holdout_share=0.0, class_min_labels=MIN_LABELS)
    for number in range(200, 240):
        for learner in (whole, restored):
            learner.learn_many(pair(number, f"class {number % 7}"), {})
    assert whole.counts["classes_evicted"] > 1
    assert_same(whole, restored)


def test_a_checkpoint_from_before_classes_were_counted_is_read() -> None:
    snapshot = flooded(trainable_layers=0).export(None)
    old = replace(snapshot, facts=msgspec.structs.replace(snapshot.facts, support=ClassesState()))
    learner = small_learner(trainable_layers=0)
    learner.restore(decode(encode(old)))
    assert (
        learner.knowledge.classes.export().labels == learner.fast_head.ridge.num_by_class
        and learner.knowledge.classes.num_provisional == 8
    )


LABELS = st.lists(st.integers(0, 11).map(lambda number: f"class {number}"), min_size=30, max_size=60)


@settings(max_examples=10, deadline=None)
@given(LABELS, st.lists(st.integers(1, 9), min_size=1))
def test_how_labels_are_batched_changes_nothing(labels: list[str], sizes: list[int]) -> None:
    """After a restart, a learner reads other batches."""
    whole, parts = (small_learner(trainable_layers=0, holdout_share=0.2, class_min_labels=MIN_LABELS) for _ in "ab")
    records: list[Answer | Feedback] = []
    for number, label in enumerate(labels):
        records += pair(number, label)
    whole.learn_many(records, {})
    first = 0
    for turn in range(len(records)):
        size = sizes[turn % len(sizes)]
        parts.learn_many(records[first : first + size], {})
        first += size
    mine = decode(encode(whole.export(None)))
    theirs = decode(encode(parts.export(None)))
    assert mine.facts.support == theirs.facts.support and +whole.counts == +parts.counts
    assert mine.facts.classes == theirs.facts.classes
    assert all(torch.equal(value, theirs.tensors[name]) for name, value in mine.tensors.items())
    assert whole.join.counts["matched"] == sum(whole.counts[name] for name in ("learnt", "holdout", "over_capacity"))
