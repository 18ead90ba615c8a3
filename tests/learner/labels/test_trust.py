"""The learner's guard, in the learner: what is not believed changes nothing that was learnt, and is handed over."""

from dataclasses import replace

import msgspec
import torch

from learner.learner import Learner
from learner.state.snapshot import decode, encode
from tests.learner.small import small_config, small_strata, tokenizer
from tests.learner.streams import answer, feedback, label_of
from wire.config import TrustConfig
from wire.receipts import Receipts
from wire.records import Answer, Feedback, Quarantined

RECEIPTS = Receipts(b"a key for tests")


def guarded(*, held_back_share: float = 0.1, **limits: float) -> Learner:
    guard = replace(TrustConfig(), **limits)  # type: ignore[arg-type]
    config = replace(small_config(trainable_layers=0, held_back_share=held_back_share), guard=guard)
    return Learner(config, small_strata(), tokenizer(), receipts=RECEIPTS)


def said(number: int, *, source: str, label: str = "", time_ms: int = 0) -> list[Answer | Feedback]:
    """An answer given at `time_ms`, and its label with the receipt."""
    given = msgspec.structs.replace(answer(number), time_ms=time_ms)
    receipt = RECEIPTS.of(given.event_id, time_ms=time_ms, entity=given.entity)
    return [
        given,
        msgspec.structs.replace(feedback(number, label=label), source=source, receipt=receipt, key=given.key),
    ]


def test_what_is_not_believed_is_not_learnt_nor_measured_on() -> None:
    it = guarded(require_receipts=1)
    honest = guarded(require_receipts=1)
    for number in range(60):
        lie = feedback(number, label=label_of(number + 1))
        it.learn([lie, *said(number, source="desk"), msgspec.structs.replace(lie, receipt="5.ab")], {})
        honest.learn(said(number, source="desk"), {})
    assert it.counts == honest.counts
    assert (it.join.counts["refused_missing"], it.join.counts["refused_forged"]) == (60, 60)
    assert torch.equal(it.tier.export()["gram"], honest.tier.export()["gram"])
    assert it.prequential.accuracy == honest.prequential.accuracy
    assert it.holdout.samples.samples() == honest.holdout.samples.samples()


def test_what_is_not_believed_is_handed_over_once() -> None:
    it = guarded()
    lie = feedback(1, label="a lie")
    found = it.learn([answer(1), msgspec.structs.replace(lie, receipt="5.ab"), feedback(1)], {})
    assert [(each.reason, each.label) for each in found] == [("forged", "a lie")]
    assert it.learn([answer(2), feedback(2)], {}) == []


def test_a_source_over_its_rate_is_held_and_an_operator_lets_its_label_through() -> None:
    it = guarded(source_labels_per_s=1, source_burst=2)
    found = [held for number in range(4) for held in it.learn(said(number, source="bot"), {})]
    assert [(held.reason, held.event_id) for held in found] == [("over_rate", "event-2"), ("over_rate", "event-3")]
    assert it.learn(said(9, source="bot", time_ms=1_000), {}) == []
    again = msgspec.convert(msgspec.structs.asdict(found[0]), Feedback)
    assert [held.reason for held in it.learn([again], {})] == ["over_rate"]
    assert it.learn([RECEIPTS.approved(again)], {}) == []
    assert it.join.counts["matched"] == 4 and it.join.counts["quarantined_over_rate"] == 3


def test_a_restored_guard_holds_the_same_labels() -> None:
    limits = {"source_labels_per_s": 5, "source_burst": 3, "source_share": 0.2}
    whole = guarded(**limits)
    sources = ["bot", "bot", "bot", "desk", "shop"]
    stream = [said(number, source=sources[number % 5], time_ms=100 * number) for number in range(60)]
    for records in stream[:30]:
        whole.learn(records, {})
    restored = guarded(**limits)
    restored.restore(decode(encode(whole.export(None))))
    held = [(it.learn(records, {})) for records in stream[30:] for it in (whole, restored)]
    assert held[0::2] == held[1::2] and any(held)
    assert whole.export(None).facts == restored.export(None).facts


def test_a_checkpoint_from_before_there_was_a_guard_is_read() -> None:
    snapshot = guarded().export(None)
    old = replace(snapshot, facts=msgspec.structs.replace(snapshot.facts, guard=None))
    it = guarded(source_share=0.5)
    it.restore(decode(encode(old)))
    assert it.trust.export().sources.recent == []


def test_a_flip_is_held_counted_and_reported_until_it_ends() -> None:
    it = guarded(held_back_share=0.0)

    def learn(first: int, last: int, *, lie: str = "") -> list[Quarantined]:
        held: list[Quarantined] = []
        for number in range(first, last):
            said = feedback(number, label=lie if label_of(number) == "refund" else "")
            held += it.learn([answer(number, label=label_of(number)), said], {})
        return held

    assert learn(0, 400) == [] and it.trust.flips.alarms() == []
    held = learn(400, 700, lie="invoice")
    assert {(each.reason, each.answered, each.label) for each in held} == {("flip", "refund", "invoice")}
    assert it.join.counts["quarantined_flip"] == len(held) >= 40
    assert it.trust.flips.alarms() == ["'refund' is said to be 'invoice'"] and it.trust.flips.num_raised == 1
    assert learn(700, 1_000) == [] and it.trust.flips.alarms() == []
