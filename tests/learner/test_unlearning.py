"""Classes whose names are swapped while labels come: afterwards their old texts have the new names, as the sums do.

Corrections have a file of their own, and evictions are in tests/learner/fast/test_rows_classes.py.
"""

from collections.abc import Iterable

import msgspec
import pytest
import torch

from learner.fast.fast_head import FastHead
from learner.learner import Learner
from learner.samples import Learnable
from learner.state.checkpoints import VersionState
from learner.state.snapshot import decode, encode
from learner.unlearning import erase
from tests.learner.small_learner import small_learner
from tests.learner.streams import TOPICS, answer, feedback
from tests.learner.swapped import CHANGE, END, RECEIPTS, SWAPPED, name_of, records
from wire.records import ConceptChange


def fed(it: Learner, first: int, last: int, *, num_sources: int = 3, is_approved: bool = False) -> Learner:
    for start in range(first, last, 10):
        batch = records(start, min(start + 10, last), num_sources=num_sources, is_approved=is_approved)
        it.learn_many(batch, {"feedback.v1/0": start + 10})
        it.tick()
    return it


def frozen(**changed: float) -> Learner:
    return small_learner(RECEIPTS, trainable_layers=0, **changed)


def assert_same_sums(
    one: FastHead, other: FastHead, *, names: Iterable[str] = ("gram", "class", "counts", "z")
) -> None:
    mine = one.export()
    theirs = other.with_order(one.ridge.classes).export()
    assert all(torch.equal(mine[name], theirs[name]) for name in names)


def list_changes(it: Learner) -> list[str]:
    return sorted(change.label for change in it.knowledge.lineage.concept_changes)


def assert_changed(it: Learner) -> None:
    """One of the two is found, or both: with the old labels of one gone, those of the other may do no harm any more."""
    assert list_changes(it) in (["delivery"], ["refund"], ["delivery", "refund"])


def test_swapped_classes_are_as_if_their_texts_had_never_had_other_names() -> None:
    it = fed(frozen(), 0, END)
    assert_changed(it)
    assert it.knowledge.lineage.gap == ""
    since_ms = {change.label: change.since_ms for change in it.knowledge.lineage.concept_changes}
    events = [sample for sample in it.replay.samples() + it.knowledge.holdout.samples.samples() if sample.event]
    assert all(sample.time_ms >= since_ms.get(sample.label, 0) for sample in events)
    assert {sample.time_ms < 1_000 + CHANGE for sample in events if sample.label == "invoice"} == {True, False}
    again = it.fast_head.successor(it.fast_head.served)
    again.relearn(it.replay.samples())
    assert_same_sums(it.fast_head, again)


def test_the_old_texts_of_a_swapped_class_go_to_the_other_which_restarts_with_it() -> None:
    it = fed(frozen(), 0, END)
    assert list_changes(it) == ["refund"]
    assert it.counts["concept_changes"] == 2
    events = [sample for sample in it.replay.samples() if sample.event]
    assert not any(sample.label in sample.text for sample in events if sample.label in SWAPPED)
    assert sum(sample.label in SWAPPED for sample in events) > (END - CHANGE) / len(TOPICS) * len(SWAPPED)


def test_stable_classes_change_nothing() -> None:
    it = fed(frozen(), 0, CHANGE)
    without = fed(frozen(recent_labels=0), 0, CHANGE)
    assert list_changes(it) == []
    assert_same_sums(it.fast_head, without.fast_head)


def test_what_one_source_says_is_an_attack_and_no_change() -> None:
    it = fed(frozen(), 0, END, num_sources=1)
    assert list_changes(it) == []


def test_what_the_operator_approves_is_a_change_whoever_says_it() -> None:
    it = fed(fed(frozen(), 0, CHANGE), CHANGE, END, num_sources=1, is_approved=True)
    assert_changed(it)


def test_a_label_from_before_the_change_that_comes_late_is_not_learnt() -> None:
    it = fed(frozen(), 0, END)
    num_learnt = it.counts["learnt"]
    late = msgspec.structs.replace(answer(1_000), time_ms=1_000)
    it.learn_many([late, feedback(1_000, label=list_changes(it)[0])], {})
    assert (it.counts["learnt"], it.counts["outdated"]) == (num_learnt, 1)


def test_a_journal_leads_to_the_same_state_as_what_happened() -> None:
    it = fed(frozen(), 0, CHANGE)
    snapshot = decode(encode(it.export(None)))
    it.unwritten.clear()
    fed(it, CHANGE, END)
    steps = msgspec.msgpack.decode(msgspec.msgpack.encode(it.unwritten), type=list[Learnable])
    assert any(isinstance(step, ConceptChange) for step in steps)
    known, _ = it.restored_knowledge(VersionState(snapshot, steps))
    assert known.lineage == it.knowledge.lineage
    assert known.replay.samples() == it.replay.samples() and known.fresh.samples() == it.knowledge.fresh.samples()
    assert_same_sums(it.fast_head, known.fast_head, names=it.fast_head.export())


def test_a_restored_learner_knows_what_has_changed() -> None:
    it = fed(frozen(), 0, END)
    restored = frozen()
    restored.restore(decode(encode(it.export(None))))
    for each in (it, restored):
        fed(each, END, END + 20)
    assert restored.export(None).facts == it.export(None).facts
    assert_same_sums(it.fast_head, restored.fast_head, names=it.fast_head.export())


def test_where_the_memory_does_not_hold_everything_the_newest_labels_take_its_place() -> None:
    it = fed(frozen(replay_samples=30), 0, END)
    assert_changed(it)
    head = it.fast_head
    label = list_changes(it)[0]
    assert head.ridge.num_texts > head.ridge.num_samples > len(it.replay)
    assert 8 <= head.ridge.count_samples(label) < 40 < head.ridge.count_samples("invoice")
    before = head.ridge.count_samples(label)
    wrong = next(number for number in range(END - 1, 0, -1) if name_of(number) == label)
    is_held = any(sample.time_ms == 1_000 + wrong for sample in it.replay.samples())
    right = msgspec.structs.replace(feedback(wrong, label="invoice"), event_source="")
    it.learn_many([RECEIPTS.approved(right)], {})
    assert head.ridge.count_samples(label) == before - is_held


@pytest.mark.parametrize("num_units", [1, 4, 8])
def test_a_round_that_trains_on_the_old_labels_is_dropped(num_units: int) -> None:
    it = fed(small_learner(RECEIPTS, slow_every_labels=10_000), 0, CHANGE)
    it.begin("labels")
    for _ in range(num_units):
        it.tick()
    fed(it, CHANGE, CHANGE + 150)
    assert_changed(it)
    assert it.knowledge.lineage.rounds[0].outcome == "dropped"
    while it.has_work:  # another has begun, as errors have risen
        it.tick()
    again = it.fast_head.successor(it.fast_head.served)
    again.relearn(it.replay.samples())
    assert_same_sums(it.fast_head, again)


def test_an_erasure_forgets_the_texts_that_a_changed_class_has_left_behind() -> None:
    it = fed(frozen(replay_samples=30), 0, END)
    assert it.fast_head.ridge.num_texts > len(it.replay)
    erase(it.knowledge, lambda subject: False, keep_alive=lambda: None)
    assert it.fast_head.ridge.num_texts == it.fast_head.ridge.num_samples == len(it.replay)
