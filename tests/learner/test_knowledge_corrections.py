"""Corrected labels: afterwards a learner knows what one knows that was told the right label at first."""

from collections.abc import Callable

import msgspec
import pytest
import torch

from learner.fast.fast_head import FastHead
from learner.learner import Learner
from learner.state.snapshot import decode, encode
from tests.learner.small_learner import small_learner
from tests.learner.streams import feedback, label_of, labelled_events, make_text, stream
from wire.receipts import Receipts
from wire.records import Feedback

NUM_EVENTS = 100
RECEIPTS = Receipts(b"a key for tests")


def misled(number: int, *, trainable_layers: int = 0, **changed: float | str) -> Learner:
    """Returns a learner that was told a wrong label of one event."""
    it = small_learner(RECEIPTS, trainable_layers=trainable_layers, **changed)
    it.learn_many(stream(0, number), {})
    it.learn_many(labelled_events([number], label=label_of(number + 1)), {})
    it.learn_many(stream(number + 1, NUM_EVENTS), {})
    return it


def correction(number: int) -> Feedback:
    return RECEIPTS.approved(msgspec.structs.replace(feedback(number), event_source=""))


def desk_label(number: int) -> Feedback:
    """Returns the right label as the reader of a mapped topic gives it, which nobody has approved."""
    return msgspec.structs.replace(feedback(number), replaces=True)


def in_holdout(learner: Learner) -> set[str]:
    return {sample.text for sample in learner.knowledge.holdout.samples.samples()}


def number_of(*, is_in_holdout: bool) -> int:
    """Returns an event that is learnt, or one that belongs to the holdout."""
    it = small_learner(trainable_layers=0)
    for number in range(20, NUM_EVENTS):
        before = len(it.knowledge.holdout)
        it.learn_many(labelled_events([number]), {})
        if (len(it.knowledge.holdout) > before) == is_in_holdout:
            return number
    raise AssertionError("no such event")


def assert_same_sums(mine: FastHead, theirs: FastHead) -> None:
    """The newest labels of a class are left out: older ones do not come back for those that are taken out."""
    assert mine.ridge.classes == theirs.ridge.classes
    sums = {name: value for name, value in mine.export().items() if not name.startswith("recent")}
    assert all(torch.equal(value, theirs.export()[name]) for name, value in sums.items())


def assert_same(one: Learner, other: Learner) -> None:
    assert_same_sums(one.fast_head, other.fast_head)
    for name in ("replay", "fresh"):
        assert getattr(one.knowledge, name).samples() == getattr(other.knowledge, name).samples()
    assert one.knowledge.holdout.samples.samples() == other.knowledge.holdout.samples.samples()


@pytest.mark.parametrize("correction", [correction, desk_label], ids=["approved", "mapped"])
@pytest.mark.parametrize("is_in_holdout", [False, True], ids=["learnt", "holdout"])
def test_the_wrong_label_leaves_no_trace(is_in_holdout: bool, correction: Callable[[int], Feedback]) -> None:
    number = number_of(is_in_holdout=is_in_holdout)
    it = misled(number)
    told = small_learner(RECEIPTS, trainable_layers=0)
    told.learn_many(stream(0, NUM_EVENTS), {})
    it.learn_many([correction(number)], {})
    assert_same(it, told)
    assert it.counts["corrected"] == 1
    assert it.knowledge.lineage.gap == ""


def test_a_version_is_not_made_again_where_a_newest_label_was_corrected_and_older_ones_were_dropped() -> None:
    """The class, which is the only one, holds 512; an older one would be in the place of that which goes."""
    it = small_learner(RECEIPTS, trainable_layers=0)
    it.learn_many(labelled_events(range(650), label="refund"), {})
    assert it.fast_head.recency.newest.is_any_full and not it.knowledge.lineage.gap
    it.learn_many([correction(number) for number in range(641, 645)], {})
    assert it.counts["corrected"] == 4 and it.knowledge.lineage.gap


def test_a_correction_in_the_same_batch_as_its_label_counts() -> None:
    number = number_of(is_in_holdout=False)
    it = small_learner(RECEIPTS, trainable_layers=0)
    wrong = labelled_events([number], label=label_of(number + 1))
    it.learn_many([*stream(0, number), *wrong, correction(number), *stream(number + 1, NUM_EVENTS)], {})
    told = small_learner(RECEIPTS, trainable_layers=0)
    told.learn_many(stream(0, NUM_EVENTS), {})
    assert_same(it, told)


def test_a_correction_that_comes_again_changes_nothing() -> None:
    number = number_of(is_in_holdout=False)
    it = misled(number)
    it.learn_many([correction(number)], {})
    before = it.fast_head.export()
    restored = small_learner(RECEIPTS, trainable_layers=0)
    restored.restore(decode(encode(it.export(None))))
    restored.learn_many([correction(number)], {})
    assert all(torch.equal(value, restored.fast_head.export()[name]) for name, value in before.items())
    assert restored.counts["corrected"] == 1
    assert restored.join.counts["duplicate"] == it.join.counts["duplicate"] + 1


def test_a_label_that_nobody_approved_corrects_nothing() -> None:
    number = number_of(is_in_holdout=False)
    it = misled(number)
    before = it.fast_head.export()
    num_duplicates = it.join.counts["duplicate"]
    it.learn_many([msgspec.structs.replace(feedback(number), event_source="")], {})
    assert all(torch.equal(value, it.fast_head.export()[name]) for name, value in before.items())
    assert it.join.counts["duplicate"] == num_duplicates + 1


def test_a_correction_must_name_the_source_of_its_event() -> None:
    """An id is unique within its source only."""
    it = misled(20)
    (held,) = it.learn_many([RECEIPTS.approved(feedback(20))], {})
    assert (held.reason, it.counts["corrected"]) == ("ambiguous", 0)


def test_what_the_memory_has_dropped_cannot_be_corrected() -> None:
    it = misled(20, replay_samples=10)
    held = {sample.text for sample in it.replay.samples()} | in_holdout(it)
    number = next(number for number in range(NUM_EVENTS) if make_text(number) not in held)
    wrong = feedback(number, label=label_of(number + 1))
    assert it.learn_many([RECEIPTS.approved(msgspec.structs.replace(wrong, event_source=""))], {}) == []
    assert it.counts["corrections_without_effect"] == 1
    assert it.knowledge.lineage.gap


def test_the_next_encoder_forgets_the_wrong_label_too() -> None:
    """The label is corrected at every point of a round; the head of the next encoder is made of the right labels."""
    number = number_of(is_in_holdout=False)
    num_units = 0
    is_over = False
    while not is_over:
        it = misled(number, trainable_layers=1)
        for _ in range(num_units):
            it.tick()
        it.learn_many([correction(number)], {})
        is_over = it.knowledge.round is None and num_units > 0
        while it.has_work:
            it.tick()
        head = it.fast_head
        again = head.successor(head.served)
        again.relearn(it.replay.samples())
        assert_same_sums(head, again)
        num_units += 3
