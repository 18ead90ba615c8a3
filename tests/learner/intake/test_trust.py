"""Label trust inside the learner: a label that is not trusted changes nothing that was learnt, and is quarantined."""

from dataclasses import replace

import msgspec
import pytest
import torch

from learner.config import LearnerConfig
from learner.intake.trust import LabelTrust
from learner.learner import Learner
from learner.samples import HoldoutDraw, Waiting, make_sample
from learner.state.snapshot import decode, encode
from tests.learner.small_learner import small_config, small_strata, tokenizer
from tests.learner.streams import TOPICS, answer, feedback, label_of
from tests.wire.samples import VERDICTS
from wire.config import TrustConfig
from wire.receipts import Receipts
from wire.records import Answer, Feedback, Quarantined

RECEIPTS = Receipts(b"a key for tests")


def make_learner(*, holdout_share: float = 0.1, **limits: float) -> Learner:
    trust = replace(TrustConfig(), **limits)  # type: ignore[arg-type]
    config = replace(small_config(trainable_layers=0, holdout_share=holdout_share), trust=trust)
    return Learner(config, small_strata(), tokenizer(), receipts=RECEIPTS)


def pair(number: int, *, source: str, label: str = "", time_ms: int = 0) -> list[Answer | Feedback]:
    """Returns an answer given at `time_ms`, and its label with the receipt."""
    answered = msgspec.structs.replace(answer(number), time_ms=time_ms)
    receipt = RECEIPTS.of(answered.event_id, time_ms=time_ms, entity=answered.entity, verdicts=VERDICTS)
    labelled = feedback(number, label=label)
    return [answered, msgspec.structs.replace(labelled, source=source, receipt=receipt, key=answered.key)]


def test_what_is_not_believed_is_not_learnt_nor_measured_on() -> None:
    learner = make_learner(require_receipts=1)
    honest = make_learner(require_receipts=1)
    for number in range(60):
        lie = feedback(number, label=label_of(number + 1))
        learner.learn_many([lie, *pair(number, source="desk"), msgspec.structs.replace(lie, receipt="5.ab")], {})
        honest.learn_many(pair(number, source="desk"), {})
    assert learner.counts == honest.counts
    assert (learner.join.counts["refused_missing"], learner.join.counts["refused_forged"]) == (60, 60)
    assert torch.equal(learner.fast_head.export()["gram"], honest.fast_head.export()["gram"])
    assert learner.prequential.accuracy == honest.prequential.accuracy
    assert learner.knowledge.holdout.samples.samples() == honest.knowledge.holdout.samples.samples()


def test_what_is_not_believed_is_handed_over_once() -> None:
    learner = make_learner()
    lie = feedback(1, label="a lie")
    quarantined = learner.learn_many([answer(1), msgspec.structs.replace(lie, receipt="5.ab"), feedback(1)], {})
    assert [(each.reason, each.label) for each in quarantined] == [("forged", "a lie")]
    assert learner.learn_many([answer(2), feedback(2)], {}) == []


def test_a_source_over_its_rate_is_held_and_an_operator_lets_its_label_through() -> None:
    learner = make_learner(source_labels_per_s=1, source_burst=2)
    held: list[Quarantined] = []
    for number in range(4):
        held += learner.learn_many(pair(number, source="bot"), {})
    assert [(each.reason, each.event_id) for each in held] == [("over_rate", "event-2"), ("over_rate", "event-3")]
    assert learner.learn_many(pair(9, source="bot", time_ms=1_000), {}) == []
    again = msgspec.convert(msgspec.structs.asdict(held[0]), Feedback)
    assert [each.reason for each in learner.learn_many([again], {})] == ["over_rate"]
    assert learner.learn_many([RECEIPTS.approved(again)], {}) == []
    assert learner.join.counts["matched"] == 4 and learner.join.counts["quarantined_over_rate"] == 3


def test_a_restored_guard_holds_the_same_labels() -> None:
    limits = {"source_labels_per_s": 5, "source_burst": 3, "source_share": 0.2}
    whole = make_learner(**limits)
    sources = ["bot", "bot", "bot", "desk", "shop"]
    stream = [pair(number, source=sources[number % 5], time_ms=100 * number) for number in range(60)]
    for records in stream[:30]:
        whole.learn_many(records, {})
    restored = make_learner(**limits)
    restored.restore(decode(encode(whole.export(None))))
    held: list[Quarantined] = []
    for records in stream[30:]:
        held_by_whole = whole.learn_many(records, {})
        assert restored.learn_many(records, {}) == held_by_whole
        held += held_by_whole
    assert held
    assert whole.export(None).facts == restored.export(None).facts


def test_a_checkpoint_from_before_there_was_a_guard_is_read() -> None:
    snapshot = make_learner().export(None)
    old = replace(snapshot, facts=msgspec.structs.replace(snapshot.facts, trust=None))
    learner = make_learner(source_share=0.5)
    learner.restore(decode(encode(old)))
    assert learner.trust.export().sources.recent == []


def test_a_flip_is_held_counted_and_reported_until_it_ends() -> None:
    learner = make_learner(holdout_share=0.0)

    def learn(first: int, last: int, *, lie: str = "") -> list[Quarantined]:
        held: list[Quarantined] = []
        for number in range(first, last):
            label = feedback(number, label=lie if label_of(number) == "refund" else "")
            held += learner.learn_many([answer(number, label=label_of(number)), label], {})
        return held

    assert learn(0, 400) == [] and learner.trust.flips.alarms() == []
    held = learn(400, 700, lie="invoice")
    assert {(each.reason, each.answered, each.label) for each in held} == {("flip", "refund", "invoice")}
    withdrawn = [each for each in held if each.detail]
    assert learner.join.counts["quarantined_flip"] == len(held) - len(withdrawn)
    assert learner.join.counts["withdrawn"] == len(withdrawn) > 0
    assert len(held) == 300 / len(TOPICS)
    assert learner.trust.flips.alarms() == ["'refund' is said to be 'invoice'"] and learner.trust.flips.num_raised == 1
    assert learn(700, 1_000) == [] and learner.trust.flips.alarms() == []


@pytest.mark.parametrize(("text", "held"), [("an image", ""), ("no image", "unreadable")])
def test_a_label_of_an_event_that_cannot_be_read_is_held(text: str, held: str) -> None:
    trust = LabelTrust(LearnerConfig(), reads="an image".__eq__)
    answered = msgspec.structs.replace(answer(1), text=text)
    sample = make_sample(Waiting.from_answer(answered), feedback(1), HoldoutDraw(0.0))
    assert trust.hold(sample) == held
