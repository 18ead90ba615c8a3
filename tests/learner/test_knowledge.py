"""Erasure: afterwards a learner knows what one knows that never saw the subject."""

import pytest
import torch

from learner.learner import Learner
from learner.state.checkpoints import VersionState
from learner.state.snapshot import decode, encode
from tests.learner.small_learner import SUBJECT_DIGEST, hold, small_learner
from tests.learner.streams import answer, feedback, labelled_events, make_subject, make_text, stream
from wire.records import Answer, Erase, Feedback

SUBJECT = make_subject(3)
DIGEST = SUBJECT_DIGEST(SUBJECT)
NUM_EVENTS = 140


def others() -> list[Answer | Feedback]:
    """The stream without the subject's events."""
    return labelled_events(number for number in range(NUM_EVENTS) if make_subject(number) != SUBJECT)


def erase_subject(learner: Learner) -> dict[str, int]:
    hold(learner, Erase(digest=DIGEST))
    learner.erased.add(DIGEST)
    return learner.erase(keep_alive=lambda: None)


def list_subjects(learner: Learner) -> set[str]:
    facts = learner.export(None).facts
    assert facts.since_round is not None
    subjects = {answer.subject for answer in facts.join.answers}
    for memory in (facts.replay, facts.holdout, facts.since_round):
        for heap in memory.groups.values():
            subjects |= {sample.subject for _, sample in heap}
    return subjects


def state(learner: Learner) -> tuple[bool, bool]:
    """Whether something of the subject is held, and whether the learner knows that it may be."""
    return SUBJECT in list_subjects(learner), learner.erased.is_due


@pytest.fixture
def learner() -> Learner:
    it = small_learner(trainable_layers=0)
    it.learn_many(stream(0, NUM_EVENTS), {})
    it.learn_many([answer(NUM_EVENTS + 3), answer(NUM_EVENTS + 4)], {})
    return it


def test_the_sums_are_those_of_all_others_bit_for_bit(learner: Learner) -> None:
    without = small_learner(trainable_layers=0)
    without.learn_many(others(), {})
    removed = erase_subject(learner)
    assert removed["replay"] > 5
    assert removed["fresh"] == removed["replay"]
    assert removed["holdout"] > 0
    assert removed["pending"] == 1
    mine = learner.fast_head
    theirs = without.fast_head
    order = [mine.ridge.classes.index(label) for label in theirs.ridge.classes]
    assert torch.equal(mine.export()["gram"], theirs.export()["gram"])
    for name in ("class", "counts", "z"):
        assert torch.equal(mine.export()[name][order], theirs.export()[name])


def test_nothing_of_the_subject_is_held_anywhere(learner: Learner) -> None:
    assert SUBJECT in list_subjects(learner)
    erase_subject(learner)
    assert SUBJECT not in list_subjects(learner) and len(list_subjects(learner) - {""}) == 6
    assert learner.fast_head.ridge.num_samples == len(learner.replay)
    facts = repr(learner.export(None).facts)
    texts = {number: repr(make_text(number)) for number in range(NUM_EVENTS)}
    assert not any(text in facts for number, text in texts.items() if make_subject(number) == SUBJECT)
    assert any(text in facts for text in texts.values())


def test_a_memory_that_has_dropped_samples_makes_the_head_anew() -> None:
    it = small_learner(trainable_layers=0, replay_samples=40)
    it.learn_many(stream(0, NUM_EVENTS), {})
    assert len(it.replay) == 40
    assert it.fast_head.ridge.num_samples > 40
    erase_subject(it)
    again = it.fast_head.successor(it.fast_head.served)
    again.learn_many(it.replay.samples())
    assert len(it.replay) < 40
    assert it.fast_head.ridge.num_samples == len(it.replay)
    assert all(torch.equal(sums, again.export()[name]) for name, sums in it.fast_head.export().items())


def test_the_subject_is_never_learnt_again_and_every_label_has_one_end(learner: Learner) -> None:
    erase_subject(learner)
    before = dict(learner.join.counts)
    learnt = learner.counts["learnt"]
    for number in (NUM_EVENTS + 3, NUM_EVENTS + 10, NUM_EVENTS + 17):
        assert make_subject(number) == SUBJECT
    learner.learn_many([feedback(NUM_EVENTS + 3)], {})  # its answer was waiting
    learner.learn_many([answer(NUM_EVENTS + 10), feedback(NUM_EVENTS + 10)], {})
    learner.learn_many([feedback(NUM_EVENTS + 17), answer(NUM_EVENTS + 17)], {})
    counts = learner.join.counts
    assert learner.counts["learnt"] == learnt
    assert SUBJECT not in list_subjects(learner)
    assert counts["labels"] - before["labels"] == 3
    assert counts["late"] - before.get("late", 0) == 3
    assert learner.join.num_parked == 0


def test_an_erasure_survives_a_restart_and_a_rollback(learner: Learner) -> None:
    old = learner.export(None)
    erase_subject(learner)
    restored = small_learner(trainable_layers=0)
    restored.restore(decode(encode(learner.export(None))))
    assert DIGEST in restored.erased and state(restored) == (False, False)
    restored.go_back(VersionState(old), 1)
    assert state(restored) == (True, True)
    assert [entry.outcome for entry in restored.commands] == [None] and restored.must_wait
    restored.erase(keep_alive=lambda: None)
    assert state(restored) == (False, False)


def test_a_round_under_way_is_dropped_with_its_plan() -> None:
    it = small_learner()
    it.learn_many(stream(0, NUM_EVENTS), {})
    it.tick()
    assert SUBJECT in planned(it)
    erase_subject(it)
    assert planned(it) == set()
    it.learn_many(stream(NUM_EVENTS, NUM_EVENTS + 100), {})
    it.tick()
    assert len(planned(it) - {""}) == 6 and SUBJECT not in planned(it)


def planned(learner: Learner) -> set[str]:
    """The subjects of the samples that the round under way trains on."""
    plan = learner.export(None).facts.round_plan
    subjects = set[str]()
    for step in plan.steps if plan else ():
        subjects |= {sample.subject for sample in step.samples}
    return subjects


def test_twice_is_as_once(learner: Learner) -> None:
    erase_subject(learner)
    before = learner.export(None)
    assert not any(learner.erase(keep_alive=lambda: None).values())
    after = learner.export(None)
    assert all(torch.equal(value, after.tensors[name]) for name, value in before.tensors.items())
    assert after.facts == before.facts
