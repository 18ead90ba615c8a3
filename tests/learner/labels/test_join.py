from collections.abc import Iterator
from itertools import permutations, product

import mmh3
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.config import LearnerConfig
from learner.labels.join import Join, JoinState
from learner.labels.sample import Sample, is_held_back
from learner.labels.trust import LabelTrust
from learner.labels.window import OVERHEAD, SAME_ID
from wire.config import TrustConfig
from wire.receipts import Receipts
from wire.records import Answer, Feedback

RECEIPTS = Receipts(b"a key for tests")


def join(state: JoinState | None = None, guard: LabelTrust | None = None, *, pending: int = 4, parked: int = 3) -> Join:
    """Windows for so many small answers and labels."""
    bounds = {"pending_bytes": pending * (OVERHEAD + 60), "parked_bytes": parked * (OVERHEAD + 130)}
    config = LearnerConfig(held_back_share=0.0, remembered_ids=50, **bounds)  # type: ignore[arg-type]
    return Join(config, guard or trusting(), state=state)


def trusting(**limits: float) -> LabelTrust:
    guard = TrustConfig(**limits)  # type: ignore[arg-type]
    return LabelTrust(LearnerConfig(max_label_chars=20, guard=guard), receipts=RECEIPTS)


def answer(
    event_id: str, text: str = "a text", label: str | None = "yes", *, source: str = "", key: str = "", time_ms: int = 0
) -> Answer:
    return Answer(
        event_id=event_id,
        text=text,
        label=label,
        score=0.5,
        weights_version=3,
        arm="stable",
        precision="int8",
        rollout_revision=1,
        source=source,
        key=key,
        time_ms=time_ms,
        receipt=RECEIPTS.of(event_id, time_ms=time_ms, entity=key if key else event_id),
    )


def label(
    event_id: str, value: str = "yes", source: str = "", receipt: str = "", event_source: str | None = None
) -> Feedback:
    return Feedback(
        event_id=event_id, label=value, source=source, time_ms=17, receipt=receipt, event_source=event_source
    )


def label_of(given: Answer, value: str = "yes", *, event_source: str | None = None) -> Feedback:
    """The label of an answer, with its receipt."""
    return Feedback(
        event_id=given.event_id,
        label=value,
        key=given.key,
        source="desk",
        time_ms=17,
        receipt=given.receipt,
        event_source=event_source,
    )


def orders(*records: Answer | Feedback) -> Iterator[tuple[Answer | Feedback, ...]]:
    return permutations(records)


def pairs(samples: list[Sample]) -> list[tuple[str, str]]:
    return [(sample.text, sample.label) for sample in samples]


def ends(it: Join) -> int:
    """How many labels have met an end, or wait for one."""
    final = ("matched", "late", "duplicate", "orphan")
    parted = sum(num for name, num in it.counts.items() if name.startswith(("refused_", "quarantined_")))
    return sum(it.counts[end] for end in final) + parted + it.num_parked


def test_a_label_after_its_answer_makes_a_sample() -> None:
    (sample,) = join().match([answer("e"), label("e", "no")])
    assert (sample.text, sample.label, sample.predicted_label) == ("a text", "no", "yes")
    assert (sample.arm, sample.weights_version, sample.feedback_time_ms) == ("stable", 3, 17)
    assert not sample.is_correct


def test_texts_wait_for_their_label_but_for_those_to_be_held_back() -> None:
    it = Join(LearnerConfig(held_back_share=0.5), trusting())
    it.match([*(answer(f"e{number}", f"text {number}") for number in range(40)), label("e3")])
    waiting = [number for number in range(40) if number != 3]
    learnt = [f"text {number}" for number in waiting if not is_held_back(("", f"e{number}"), 0.5)]
    assert it.unlabelled(100) == learnt
    assert 0 < len(learnt) < len(waiting) == it.num_pending
    assert it.unlabelled(5) == [text for text in learnt if text in {f"text {number}" for number in waiting[-5:]}]


def test_a_sample_is_about_the_key_of_its_event() -> None:
    (sample,) = join().match([msgspec.structs.replace(answer("e"), key="customer 7"), label("e")])
    assert sample.subject == "customer 7"


def test_a_label_before_its_answer_is_parked_until_it_comes() -> None:
    it = join()
    assert it.match([label("e")]) == [] and it.num_parked == 1
    (sample,) = it.match([answer("e")])
    assert sample.is_correct
    assert it.counts["early"] == it.counts["matched"] == 1 and it.num_parked == 0


def test_a_second_label_of_an_event_is_a_duplicate() -> None:
    it = join()
    assert len(it.match([answer("e"), label("e"), label("e", "no"), answer("e"), label("e")])) == 1
    assert it.counts["duplicate"] == 2 and it.counts["answers_repeated"] == 1


def test_a_second_label_while_the_first_is_parked_is_a_duplicate() -> None:
    it = join()
    (sample,) = it.match([label("e", "first"), label("e", "second"), answer("e")])
    assert sample.label == "first" and it.counts["duplicate"] == 1


def test_a_label_of_an_expired_answer_is_late() -> None:
    it = join(pending=1)
    assert it.match([answer("old"), answer("new"), label("old")]) == []
    assert it.counts["late"] == it.counts["answers_expired"] == 1


def test_the_bytes_of_waiting_answers_are_bounded() -> None:
    """B22: ids and keys are counted, and what an answer takes besides its text."""
    it = join(pending=3)
    it.match([answer("a"), answer("b"), answer("c" * 60, key="k" * 60)])
    assert it.num_pending == 2 and it.counts["answers_expired"] == 1
    it.match([answer("d", "z" * 2_000)])
    assert it.num_pending == 0 and it.counts["answers_expired"] == 4


def test_a_parked_label_that_finds_no_answer_is_an_orphan() -> None:
    it = join()
    it.match([label(str(i)) for i in range(5)])
    assert it.num_parked == 3 and it.counts["orphan"] == 2


def test_the_bytes_of_parked_labels_are_bounded() -> None:
    """B22."""
    it = join()
    it.match([label("a"), label("b"), label_of(answer("c"), event_source="s" * 450)])
    assert it.num_parked == 2 and it.counts["orphan"] == 1


def test_labels_that_come_to_nothing_are_an_alarm() -> None:
    """B22: a window that is too small is said."""
    it = join(pending=1)
    it.match([record for number in range(99) for record in (answer(f"{number}"), label(f"{number}"))])
    it.match([answer("old"), answer("new"), label("old")])
    assert it.alarms() == []
    it.match([answer("newer"), label("new"), *(label(f"nobody's {number}") for number in range(8))])
    late, orphan = join(it.export()).alarms()
    assert late == ("1.9% of the last 106 labels came when their answer waited no longer: raise learner.pending_bytes")
    assert orphan.startswith("4.7% of the last 106 labels waited for an answer that did not come")


def test_blank_and_endless_labels_are_refused() -> None:
    it = join()
    assert it.match([answer("a"), label("a", " \t"), label("a", "x" * 21)]) == []
    assert it.counts["refused_blank"] == it.counts["refused_too_long"] == 1
    assert len(it.match([label("a")])) == 1


def test_the_held_back_share_is_a_function_of_the_event() -> None:
    holdout = [event_id for event_id in map(str, range(10_000)) if is_held_back(("", event_id), 0.04)]
    assert 330 < len(holdout) < 470
    assert set(holdout) <= {event_id for event_id in map(str, range(10_000)) if is_held_back(("", event_id), 0.05)}
    assert set(holdout) != {event_id for event_id in map(str, range(10_000)) if is_held_back(("crm", event_id), 0.04)}


def test_the_held_back_share_of_events_without_a_source_is_that_of_their_ids() -> None:
    """B5: figures and checkpoints from before an event had a source stay comparable."""
    ids = [f"event-{number}" for number in range(1_000)]
    before = {event_id for event_id in ids if mmh3.hash(event_id, 0x6865_6C64, signed=False) < 0.04 * 2**32}
    assert before == {event_id for event_id in ids if is_held_back(("", event_id), 0.04)}


def test_a_forged_label_takes_nothing_from_the_right_one_whichever_comes_first() -> None:
    forged = label("e", "no", receipt="5.ab")
    right = label("e", receipt=RECEIPTS.of("e", time_ms=5, entity="e"))
    streams: list[list[Answer | Feedback]] = [
        [forged, right, answer("e", time_ms=5)],
        [forged, answer("e", time_ms=5), right],
        [answer("e", time_ms=5), forged, right],
    ]
    for records in streams:
        it = join()
        (sample,) = it.match(records)
        assert sample.label == "yes" and it.counts["refused_forged"] == 1
        (refused,) = it.take_quarantined()
        assert (refused.reason, refused.label, refused.receipt) == ("forged", "no", "5.ab")
        assert it.take_quarantined() == []


def test_a_label_that_is_held_leaves_its_answer_for_another_source() -> None:
    it = join(guard=trusting(source_labels_per_s=1, source_burst=1))
    records: list[Answer | Feedback] = [answer("a"), answer("b"), label("a", source="bot")]
    records += [label("b", "no", "bot"), label("b", "yes", "desk")]
    assert [(sample.event_id, sample.source) for sample in it.match(records)] == [("a", "bot"), ("b", "desk")]
    (held,) = it.take_quarantined()
    assert (held.reason, held.event_id, held.label, held.source) == ("over_rate", "b", "no", "bot")
    assert (held.text, held.answered) == ("a text", "yes")
    assert it.counts["labels"] == ends(it) == 3


def test_a_parked_label_that_is_held_leaves_its_answer_too() -> None:
    it = join(guard=trusting(source_labels_per_s=1, source_burst=1))
    assert len(it.match([answer("a"), label("a", source="bot"), label("b", source="bot"), answer("b")])) == 1
    assert it.num_parked == 0 and it.num_pending == 1 and it.counts["quarantined_over_rate"] == 1


def test_two_producers_that_both_count_teach_each_their_own() -> None:
    """B5, scenario a: the second answer is no repetition, and no label is learnt for the text of the other."""
    one = answer("1", "of the shop", source="shop", time_ms=5)
    other = answer("1", "of the desk", source="desk", time_ms=6)
    by_source = [label("1", "A", event_source="shop"), label("1", "B", event_source="desk")]
    by_receipt = [label_of(one, "A"), label_of(other, "B")]
    by_both = [label_of(one, "A", event_source="shop"), label_of(other, "B", event_source="desk")]
    for labels in (by_source, by_receipt, by_both):
        for records in orders(one, other, *labels):
            it = join(pending=9, parked=9)
            assert sorted(pairs(it.match(records))) == [("of the desk", "B"), ("of the shop", "A")]
            assert it.match(labels) == [] and it.counts["duplicate"] == 2
            assert it.counts["labels"] == ends(it) == 4 and it.num_parked == it.num_pending == 0


def test_who_reaches_http_teaches_nothing_under_the_id_of_another() -> None:
    """B5, scenario b: a valid receipt is good for its own answer alone."""
    evil = answer("ticket-1", "I love pizza", source="http", time_ms=1_000)
    twin = answer("ticket-1", "I love pizza", source="http", key="customer-7", time_ms=1_001)
    true = answer("ticket-1", "where is my refund", source="crm", key="customer-7", time_ms=2_000)
    for records in orders(evil, twin, true, label_of(true, "refund")):
        assert pairs(join(pending=9).match(records)) == [("where is my refund", "refund")]


def test_an_id_that_comes_back_for_another_text_is_another_event() -> None:
    """B5, scenario c: a broker that lost its log gives the ids of its places again."""
    old = answer("events.v1/0/0", "of the first run", time_ms=1)
    new = answer("events.v1/0/0", "of the second", time_ms=2)
    it = join()
    it.match([old])
    again = join(it.export())
    assert pairs(again.match([new, label_of(new, "L")])) == [("of the second", "L")]
    assert again.match([label(old.event_id, "L")]) == [] and again.counts["quarantined_ambiguous"] == 1
    assert pairs(again.match([label_of(old, "K")])) == [("of the first run", "K")]


@pytest.mark.parametrize("event_source", [None, "crm"])
def test_a_label_with_the_receipt_of_another_answer_waits_for_its_own(event_source: str | None) -> None:
    """B5: a receipt must be that of the answer, by its time and its entity."""
    here = answer("e", "here", source="crm", key="customer-7", time_ms=1_000)
    for own in (answer("e", "own", source="crm", key="customer-7", time_ms=2_000), answer("e", "own", source="crm")):
        it = join()
        assert it.match([here, label_of(own, event_source=event_source)]) == [] and it.num_parked == 1
        assert pairs(it.match([own])) == [("own", "yes")]
        assert it.num_pending == 1 and it.counts["labels"] == ends(it) == 1


def test_an_event_that_was_answered_twice_has_two_good_receipts() -> None:
    """B5: a redelivery changes neither the event nor what it is learnt for."""
    first = answer("e", source="crm", time_ms=1_000)
    second = answer("e", source="crm", time_ms=2_000)
    for records in orders(first, second, label_of(first, "A"), label_of(second, "A")):
        it = join()
        assert len(it.match(records)) == 1 and it.counts["answers_repeated"] == it.counts["duplicate"] == 1
        assert it.counts["labels"] == ends(it) == 2 and it.num_parked == 0


def test_a_label_that_several_events_fit_is_ambiguous() -> None:
    """B5: it is quarantined, and every answer waits for a label that says more."""
    it = join()
    assert it.match([answer("1", "A", source="a"), answer("1", "B", source="b"), label("1", "x")]) == []
    (held,) = it.take_quarantined()
    assert (held.reason, held.event_source, held.text) == ("ambiguous", None, "")
    assert it.counts["quarantined_ambiguous"] == 1 == it.counts["labels"] == ends(it) and it.num_pending == 2
    said = RECEIPTS.approved(msgspec.structs.replace(held.feedback, event_source="b"))
    assert pairs(it.match([said])) == [("B", "x")]


def test_a_label_that_came_twice_is_not_learnt_for_another_event_of_that_id() -> None:
    """B5: which of the two it is of, the one that is labelled or the one that waits, nobody can say."""
    it = join()
    assert pairs(
        it.match([answer("1", "A", source="a"), label("1", "x"), answer("1", "B", source="b"), label("1", "x")])
    ) == [("A", "x")]
    assert it.counts["quarantined_ambiguous"] == 1 and it.num_pending == 1


def test_a_quarantined_label_keeps_the_source_of_its_event() -> None:
    """B5: an operator vouches for a label of one event."""
    it = join(guard=trusting(source_labels_per_s=1, source_burst=1))
    it.match([answer("a"), label("a"), answer("b", "B", source="crm"), label("b")])
    (held,) = it.take_quarantined()
    assert (held.reason, held.event_source) == ("over_rate", "crm")
    released = RECEIPTS.approved(held.feedback)
    assert pairs(it.match([answer("b", "another", source="http"), released])) == [("B", "yes")]


def test_what_an_operator_vouches_for_needs_no_receipt() -> None:
    it = join()
    forged = label("e", receipt="5.ab")
    assert it.match([answer("e", time_ms=7), forged]) == [] and len(it.match([RECEIPTS.approved(forged)])) == 1


def test_an_answer_from_before_sources_were_kept_is_of_any() -> None:
    old = msgspec.msgpack.encode([["e", "a text", "yes", "stable", 3, "", 5]])
    state = msgspec.structs.replace(join().export(), pending=msgspec.Raw(old))
    given = answer("e", source="crm", time_ms=5)
    for said in (label("e"), label("e", event_source="crm"), label_of(given)):
        it = join(state)
        assert len(it.match([given, said, given])) == 1 and it.counts["answers_repeated"] == 2


def test_one_id_for_everything_costs_no_memory() -> None:
    it = join(pending=1_000, parked=1_000)
    true = answer("1", "mine", source="crm")
    it.match([true, *(answer("1", f"text {number}", source="http", time_ms=number) for number in range(50))])
    it.match([label_of(answer("2", time_ms=number)) for number in range(50)])
    assert it.num_pending == it.num_parked == SAME_ID and it.counts["orphan"] == 50 - SAME_ID
    assert pairs(it.match([label_of(true)])) == [("mine", "yes")]


IDS = st.sampled_from([f"event-{i}" for i in range(6)])
SOURCES = st.sampled_from(["", "crm", "http"])
ANSWERS = st.builds(
    answer,
    IDS,
    st.sampled_from(["a text", "another"]),
    source=SOURCES,
    key=st.sampled_from(["", "k"]),
    time_ms=st.integers(0, 2),
)
VALUES = st.sampled_from(["yes", "no", "", "x" * 30])
LABELS = st.builds(
    label, IDS, VALUES, st.sampled_from(["", "desk", "bot"]), st.sampled_from(["", "5.ab"]), st.none() | SOURCES
)
RECORDS = st.lists(ANSWERS | LABELS | st.builds(label_of, ANSWERS, VALUES, event_source=st.none() | SOURCES))


@given(RECORDS)
def test_every_label_meets_exactly_one_end(records: list[Answer | Feedback]) -> None:
    it = join(guard=trusting(source_labels_per_s=1, source_burst=2, source_share=0.4))
    samples = it.match(records)
    assert it.counts["labels"] == ends(it) == sum(isinstance(record, Feedback) for record in records)
    assert len(samples) == it.counts["matched"]
    assert it.num_pending <= 4 and it.num_parked <= 3


GIVEN = [
    answer(event_id, text, source=source, key=key, time_ms=time_ms)
    for time_ms, (event_id, text, source, key) in enumerate(product(("1", "2"), ("A", "B"), ("crm", "http"), ("", "k")))
]
SAID = [label_of(given, given.text, event_source=source) for given in GIVEN for source in (None, given.source)]


@given(st.lists(st.sampled_from([*GIVEN, *SAID])))
def test_a_receipt_is_learnt_for_the_text_that_it_is_of(records: list[Answer | Feedback]) -> None:
    """B5: in whatever order, and whatever else has the id, or even the id and the source."""
    assert all(text == said for text, said in pairs(join(pending=99, parked=99).match(records)))


@given(RECORDS, RECORDS)
def test_a_restored_join_goes_on_as_if_nothing_had_happened(
    before: list[Answer | Feedback], after: list[Answer | Feedback]
) -> None:
    whole = join()
    first = join()
    first.match(before)
    second = join(msgspec.msgpack.decode(msgspec.msgpack.encode(first.export()), type=JoinState))
    assert whole.match(before + after)[first.counts["matched"] :] == second.match(after)
    assert whole.export() == second.export()
