"""F41: labels that are withdrawn when a flip is noticed: the learner is then as one that never had them."""

from collections.abc import Iterable

import msgspec
import pytest
import torch

from learner.learner import Learner
from learner.relabelling import relabel
from learner.samples import WITHDRAWN, Learnable
from learner.state.checkpoints import VersionState
from learner.state.snapshot import decode, encode
from tests.learner.small_learner import SUBJECT_DIGEST, Setting, hold, small_learner
from tests.learner.streams import answer, feedback, label_of, make_subject
from wire.receipts import Receipts
from wire.records import Answer, Feedback, LabelCommand, Quarantined

RECEIPTS = Receipts(b"a key for tests")
FIRST_LIE = 400
FALSE = "invoice"
TRUE = "refund"
LIES = range(FIRST_LIE, 500, 5)
"""The events of TRUE that are labelled as FALSE: the first of them raise the alarm, and the others are held."""


def frozen(**changed: Setting) -> Learner:
    return small_learner(RECEIPTS, **{"trainable_layers": 0, "holdout_share": 0.0} | changed)


def records(numbers: Iterable[int], *, source: str = "desk") -> list[Answer | Feedback]:
    """The right answers to these events, and the labels of a source that lies about TRUE from FIRST_LIE on."""
    found = list[Answer | Feedback]()
    for number in numbers:
        right = label_of(number)
        said = feedback(number, label=FALSE if number in LIES else right)
        found += [answer(number, label=right), msgspec.structs.replace(said, source=source)]
    return found


def fed(it: Learner, numbers: Iterable[int]) -> list[Quarantined]:
    held: list[Quarantined] = []
    for number in numbers:
        held += it.learn_many(records([number]), {"feedback.v1/0": number + 1})
    return held


def without_lies(**changed: Setting) -> Learner:
    it = frozen(**changed)
    fed(it, [number for number in range(500) if number not in LIES])
    return it


def assert_same(one: Learner, other: Learner) -> None:
    """The newest labels of a class are left out: older ones do not come back for those that are taken out."""
    for name in ("gram", "class", "counts", "z"):
        assert torch.equal(one.fast_head.export()[name], other.fast_head.export()[name]), name
    for memory in ("replay", "fresh"):
        assert getattr(one.knowledge, memory).samples() == getattr(other.knowledge, memory).samples()
    assert one.knowledge.holdout.samples.samples() == other.knowledge.holdout.samples.samples()


def select_withdrawn(held: Iterable[Quarantined]) -> list[Quarantined]:
    return [label for label in held if label.detail == WITHDRAWN]


@pytest.mark.parametrize("holdout_share", [0.0, 0.5])
def test_no_label_of_a_flip_leaves_a_trace(holdout_share: float) -> None:
    it = frozen(holdout_share=holdout_share)
    held = fed(it, range(500))
    withdrawn = select_withdrawn(held)
    assert {label.event_id for label in held} == {f"event-{number}" for number in LIES}
    assert it.join.counts["withdrawn"] == len(withdrawn) >= 3
    assert it.counts["withdrawals_without_effect"] == 0
    assert_same(it, without_lies(holdout_share=holdout_share))


def test_the_withdrawn_lie_in_quarantine_as_those_that_are_held() -> None:
    held = fed(frozen(), range(500))
    withdrawn = select_withdrawn(held)[0]
    kept = next(label for label in held if not label.detail)
    names = {"reason", "label", "answered", "source", "event_source"}
    assert all(getattr(withdrawn, name) == getattr(kept, name) for name in names)
    number = LIES[0]
    assert (withdrawn.event_id, withdrawn.text) == (f"event-{number}", answer(number).text)
    assert (withdrawn.key, withdrawn.time_ms) == (make_subject(number), number)


@pytest.mark.parametrize("size", [7, 1_000])
def test_batches_change_nothing(size: int) -> None:
    one, other = frozen(), frozen()
    fed(one, range(500))
    for first in range(0, 500, size):
        other.learn_many(records(range(first, min(first + size, 500))), {})
    assert_same(one, other)
    assert one.trust.export() == other.trust.export() and one.join.export() == other.join.export()


def test_a_restored_learner_withdraws_the_same() -> None:
    it, restored = frozen(), frozen()
    fed(it, range(FIRST_LIE + 8))
    restored.restore(decode(encode(it.export(None))))
    rest = range(FIRST_LIE + 8, 500)
    assert it.join.counts["withdrawn"] == 0
    assert fed(restored, rest) == fed(it, rest)
    assert restored.join.counts["withdrawn"] == it.join.counts["withdrawn"] > 0
    assert_same(restored, it)
    assert restored.export(None).facts == it.export(None).facts


def test_a_journal_leads_to_the_same_state() -> None:
    it = frozen()
    fed(it, range(FIRST_LIE + 8))
    snapshot = decode(encode(it.export(None)))
    it.unwritten.clear()
    fed(it, range(FIRST_LIE + 8, 500))
    steps = msgspec.msgpack.decode(msgspec.msgpack.encode(it.unwritten), type=list[Learnable])
    known, _ = it.restored_knowledge(VersionState(snapshot, steps))
    assert known.replay.samples() == it.replay.samples() and known.fresh.samples() == it.knowledge.fresh.samples()
    sums = it.fast_head.export()
    assert all(torch.equal(value, known.fast_head.export()[name]) for name, value in sums.items())


@pytest.mark.parametrize("num_units", range(0, 30, 3))
def test_the_next_encoder_forgets_them_too(num_units: int) -> None:
    it = frozen(trainable_layers=1, slow_every_labels=10_000)
    fed(it, range(FIRST_LIE + 8))
    it.begin("labels")
    for _ in range(num_units):
        it.tick()
    assert select_withdrawn(fed(it, range(FIRST_LIE + 8, 500)))
    while it.has_work:
        it.tick()
    again = it.fast_head.successor(it.fast_head.served)
    again.relearn(it.replay.samples())
    for name in ("gram", "class", "counts", "z"):
        assert torch.equal(it.fast_head.export()[name], again.export()[name])


def test_a_label_that_is_released_is_learnt_again_once() -> None:
    it = frozen()
    withdrawn = select_withdrawn(fed(it, range(500)))[0]
    released = RECEIPTS.approved(withdrawn.feedback)
    for num_duplicates in range(2):
        assert it.learn_many([released], {}) == []
        assert it.join.counts["duplicate"] == num_duplicates
    found = [sample for sample in it.replay.samples() if sample.text == withdrawn.text]
    assert [(sample.label, sample.subject) for sample in found] == [(FALSE, withdrawn.key)]


def test_no_version_after_it_is_said_to_follow_from_the_topics() -> None:
    """In another order of their partitions other labels would be held."""
    it = frozen()
    fed(it, range(FIRST_LIE + 1))
    assert it.knowledge.lineage.gap == ""
    fed(it, range(FIRST_LIE + 1, 500))
    assert it.knowledge.lineage.gap.startswith("a flip was noticed")


def test_what_the_memory_has_dropped_stays_learnt() -> None:
    it = frozen(replay_samples=0)
    withdrawn = select_withdrawn(fed(it, range(500)))
    assert it.counts["withdrawals_without_effect"] == len(withdrawn) > 0


def test_another_source_may_label_an_event_whose_label_was_withdrawn() -> None:
    it = frozen()
    fed(it, range(500))
    before = it.join.counts.copy()
    right = msgspec.structs.replace(feedback(LIES[0]), source="another desk", event_source="", text="its text")
    assert it.learn_many([right], {}) == []
    assert it.join.counts - before == {"labels": 1, "matched": 1, "with_text": 1}
    assert [sample.label for sample in it.replay.samples() if sample.text == "its text"] == [TRUE]


def test_what_a_desk_has_corrected_is_not_withdrawn() -> None:
    it = frozen()
    fed(it, range(FIRST_LIE + 1))
    it.learn_many([msgspec.structs.replace(feedback(FIRST_LIE), replaces=True)], {})
    withdrawn = select_withdrawn(fed(it, range(FIRST_LIE + 1, 500)))
    assert f"event-{FIRST_LIE}" not in {label.event_id for label in withdrawn}
    corrected = [sample.label for sample in it.replay.samples() if sample.text == answer(FIRST_LIE).text]
    assert withdrawn and corrected == [TRUE]


def test_the_withdrawn_have_the_names_of_now() -> None:
    it = frozen()
    fed(it, range(FIRST_LIE + 8))
    command = LabelCommand(number=1, action="rename", labels=(FALSE,), to=("bill",), time_ms=1)
    hold(it, command)
    relabel(it, command)
    withdrawn = select_withdrawn(fed(it, range(FIRST_LIE + 8, 500)))
    assert {label.label for label in withdrawn} == {"bill"}
    lies = {answer(number).text for number in LIES}
    assert not [sample for sample in it.replay.samples() if sample.text in lies]


def test_nothing_of_an_erased_subject_can_be_withdrawn() -> None:
    """N1."""
    it = frozen()
    fed(it, range(FIRST_LIE + 8))
    subject = make_subject(FIRST_LIE)
    assert subject in {sample.subject for sample in it.trust.export().suspects}
    it.erased.add(SUBJECT_DIGEST(subject))
    assert it.erase(keep_alive=lambda: None)["suspects"] == 1
    assert subject.encode() not in msgspec.msgpack.encode(it.trust.export())
