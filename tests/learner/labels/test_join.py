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


def make_join(
    state: JoinState | None = None, trust: LabelTrust | None = None, *, pending: int = 4, parked: int = 3
) -> Join:
    """Returns a join whose windows hold so many small answers and labels."""
    bounds = {"pending_bytes": pending * (OVERHEAD + 60), "parked_bytes": parked * (OVERHEAD + 130)}
    config = LearnerConfig(held_back_share=0.0, remembered_ids=50, **bounds)  # type: ignore[arg-type]
    return Join(config, trust or make_trust(), state=state)


def make_trust(**limits: float) -> LabelTrust:
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


def label_of(answered: Answer, value: str = "yes", *, event_source: str | None = None) -> Feedback:
    """Returns the label of an answer, with its receipt."""
    return Feedback(
        event_id=answered.event_id,
        label=value,
        key=answered.key,
        source="desk",
        time_ms=17,
        receipt=answered.receipt,
        event_source=event_source,
    )


def orders(*records: Answer | Feedback) -> Iterator[tuple[Answer | Feedback, ...]]:
    return permutations(records)


def pairs(samples: list[Sample]) -> list[tuple[str, str]]:
    return [(sample.text, sample.label) for sample in samples]


def num_outcomes(join: Join) -> int:
    """Returns how many labels have an outcome, or are parked."""
    num_final = sum(join.counts[name] for name in ("matched", "late", "duplicate", "orphan"))
    num_distrusted = sum(num for name, num in join.counts.items() if name.startswith(("refused_", "quarantined_")))
    return num_final + num_distrusted + join.num_parked


def test_a_label_after_its_answer_makes_a_sample() -> None:
    (sample,) = make_join().match([answer("e"), label("e", "no")])
    assert (sample.text, sample.label, sample.predicted_label) == ("a text", "no", "yes")
    assert (sample.arm, sample.weights_version, sample.feedback_time_ms) == ("stable", 3, 17)
    assert not sample.is_correct


def test_texts_wait_for_their_label_but_for_those_to_be_held_back() -> None:
    join = Join(LearnerConfig(held_back_share=0.5), make_trust())
    join.match([*(answer(f"e{number}", f"text {number}") for number in range(40)), label("e3")])
    waiting = [number for number in range(40) if number != 3]
    learnt = [f"text {number}" for number in waiting if not is_held_back(("", f"e{number}"), 0.5)]
    assert join.unlabelled(100) == learnt
    assert join.num_pending == len(waiting)
    assert learnt and len(learnt) < len(waiting)
    newest = {f"text {number}" for number in waiting[-5:]}
    assert join.unlabelled(5) == [text for text in learnt if text in newest]


def test_a_sample_is_about_the_key_of_its_event() -> None:
    (sample,) = make_join().match([msgspec.structs.replace(answer("e"), key="customer 7"), label("e")])
    assert sample.subject == "customer 7"


def test_a_label_before_its_answer_is_parked_until_it_comes() -> None:
    join = make_join()
    assert join.match([label("e")]) == [] and join.num_parked == 1
    (sample,) = join.match([answer("e")])
    assert sample.is_correct
    assert join.counts["early"] == 1
    assert join.counts["matched"] == 1
    assert join.num_parked == 0


def test_a_second_label_of_an_event_is_a_duplicate() -> None:
    join = make_join()
    assert len(join.match([answer("e"), label("e"), label("e", "no"), answer("e"), label("e")])) == 1
    assert join.counts["duplicate"] == 2 and join.counts["answers_repeated"] == 1


def test_a_second_label_while_the_first_is_parked_is_a_duplicate() -> None:
    join = make_join()
    (sample,) = join.match([label("e", "first"), label("e", "second"), answer("e")])
    assert sample.label == "first" and join.counts["duplicate"] == 1


def test_a_label_of_an_expired_answer_is_late() -> None:
    join = make_join(pending=1)
    assert join.match([answer("old"), answer("new"), label("old")]) == []
    assert join.counts["late"] == 1
    assert join.counts["answers_expired"] == 1


def test_the_bytes_of_waiting_answers_are_bounded() -> None:
    """B22: ids and keys are counted, and what an answer takes besides its text."""
    join = make_join(pending=3)
    join.match([answer("a"), answer("b"), answer("c" * 60, key="k" * 60)])
    assert join.num_pending == 2 and join.counts["answers_expired"] == 1
    join.match([answer("d", "z" * 2_000)])
    assert join.num_pending == 0 and join.counts["answers_expired"] == 4


def test_a_parked_label_that_finds_no_answer_is_an_orphan() -> None:
    join = make_join()
    join.match([label(str(i)) for i in range(5)])
    assert join.num_parked == 3 and join.counts["orphan"] == 2


def test_the_bytes_of_parked_labels_are_bounded() -> None:
    """B22."""
    join = make_join()
    join.match([label("a"), label("b"), label_of(answer("c"), event_source="s" * 450)])
    assert join.num_parked == 2 and join.counts["orphan"] == 1


def test_labels_that_come_to_nothing_are_an_alarm() -> None:
    """B22: a window that is too small raises an alarm."""
    join = make_join(pending=1)
    for number in range(99):
        join.match([answer(f"{number}"), label(f"{number}")])
    join.match([answer("old"), answer("new"), label("old")])
    assert join.alarms() == []
    join.match([answer("newer"), label("new"), *(label(f"nobody's {number}") for number in range(8))])
    late, orphan = make_join(join.export()).alarms()
    assert late == ("1.9% of the last 106 labels came when their answer waited no longer: raise learner.pending_bytes")
    assert orphan.startswith("4.7% of the last 106 labels waited for an answer that did not come")


def test_blank_and_endless_labels_are_refused() -> None:
    join = make_join()
    assert join.match([answer("a"), label("a", " \t"), label("a", "x" * 21)]) == []
    assert join.counts["refused_blank"] == 1
    assert join.counts["refused_too_long"] == 1
    assert len(join.match([label("a")])) == 1


def test_the_held_back_share_is_a_function_of_the_event() -> None:
    holdout = [event_id for event_id in map(str, range(10_000)) if is_held_back(("", event_id), 0.04)]
    assert 330 < len(holdout) < 470  # 400, give or take 3.5 standard deviations
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
        join = make_join()
        (sample,) = join.match(records)
        assert sample.label == "yes" and join.counts["refused_forged"] == 1
        (refused,) = join.take_quarantined()
        assert (refused.reason, refused.label, refused.receipt) == ("forged", "no", "5.ab")
        assert join.take_quarantined() == []


def test_a_label_that_is_held_leaves_its_answer_for_another_source() -> None:
    join = make_join(trust=make_trust(source_labels_per_s=1, source_burst=1))
    records: list[Answer | Feedback] = [answer("a"), answer("b"), label("a", source="bot")]
    records += [label("b", "no", "bot"), label("b", "yes", "desk")]
    assert [(sample.event_id, sample.source) for sample in join.match(records)] == [("a", "bot"), ("b", "desk")]
    (held,) = join.take_quarantined()
    assert (held.reason, held.event_id, held.label, held.source) == ("over_rate", "b", "no", "bot")
    assert (held.text, held.answered) == ("a text", "yes")
    assert join.counts["labels"] == 3
    assert num_outcomes(join) == 3


def test_a_parked_label_that_is_held_leaves_its_answer_too() -> None:
    join = make_join(trust=make_trust(source_labels_per_s=1, source_burst=1))
    assert len(join.match([answer("a"), label("a", source="bot"), label("b", source="bot"), answer("b")])) == 1
    assert join.num_parked == 0 and join.num_pending == 1 and join.counts["quarantined_over_rate"] == 1


def test_two_producers_that_both_count_teach_each_their_own() -> None:
    """B5, scenario a: the second answer is no repetition, and no label is learnt for the text of the other."""
    one = answer("1", "of the shop", source="shop", time_ms=5)
    other = answer("1", "of the desk", source="desk", time_ms=6)
    by_source = [label("1", "A", event_source="shop"), label("1", "B", event_source="desk")]
    by_receipt = [label_of(one, "A"), label_of(other, "B")]
    by_both = [label_of(one, "A", event_source="shop"), label_of(other, "B", event_source="desk")]
    for labels in (by_source, by_receipt, by_both):
        for records in orders(one, other, *labels):
            join = make_join(pending=9, parked=9)
            assert sorted(pairs(join.match(records))) == [("of the desk", "B"), ("of the shop", "A")]
            assert join.match(labels) == [] and join.counts["duplicate"] == 2
            assert join.counts["labels"] == 4
            assert num_outcomes(join) == 4
            assert (join.num_parked, join.num_pending) == (0, 0)


def test_who_reaches_http_teaches_nothing_under_the_id_of_another() -> None:
    """B5, scenario b: a valid receipt is good for its own answer alone."""
    evil = answer("ticket-1", "I love pizza", source="http", time_ms=1_000)
    twin = answer("ticket-1", "I love pizza", source="http", key="customer-7", time_ms=1_001)
    true = answer("ticket-1", "where is my refund", source="crm", key="customer-7", time_ms=2_000)
    for records in orders(evil, twin, true, label_of(true, "refund")):
        assert pairs(make_join(pending=9).match(records)) == [("where is my refund", "refund")]


def test_an_id_that_comes_back_for_another_text_is_another_event() -> None:
    """B5, scenario c: a broker that lost its log gives the ids of its places again."""
    old = answer("events.v1/0/0", "of the first run", time_ms=1)
    new = answer("events.v1/0/0", "of the second", time_ms=2)
    join = make_join()
    join.match([old])
    again = make_join(join.export())
    assert pairs(again.match([new, label_of(new, "L")])) == [("of the second", "L")]
    assert again.match([label(old.event_id, "L")]) == [] and again.counts["quarantined_ambiguous"] == 1
    assert pairs(again.match([label_of(old, "K")])) == [("of the first run", "K")]


@pytest.mark.parametrize("event_source", [None, "crm"])
def test_a_label_with_the_receipt_of_another_answer_waits_for_its_own(event_source: str | None) -> None:
    """B5: the receipt must be that of the answer, by its time and its entity."""
    here = answer("e", "here", source="crm", key="customer-7", time_ms=1_000)
    for own in (answer("e", "own", source="crm", key="customer-7", time_ms=2_000), answer("e", "own", source="crm")):
        join = make_join()
        assert join.match([here, label_of(own, event_source=event_source)]) == [] and join.num_parked == 1
        assert pairs(join.match([own])) == [("own", "yes")]
        assert join.num_pending == 1
        assert join.counts["labels"] == 1
        assert num_outcomes(join) == 1


def test_an_event_that_was_answered_twice_has_two_good_receipts() -> None:
    """B5: a redelivery changes neither the event nor what it is learnt for."""
    first = answer("e", source="crm", time_ms=1_000)
    second = answer("e", source="crm", time_ms=2_000)
    for records in orders(first, second, label_of(first, "A"), label_of(second, "A")):
        join = make_join()
        assert len(join.match(records)) == 1
        assert join.counts["answers_repeated"] == 1
        assert join.counts["duplicate"] == 1
        assert join.counts["labels"] == 2
        assert num_outcomes(join) == 2
        assert join.num_parked == 0


def test_a_label_that_several_events_fit_is_ambiguous() -> None:
    """B5: it is quarantined, and every answer waits for a label that says more."""
    join = make_join()
    assert join.match([answer("1", "A", source="a"), answer("1", "B", source="b"), label("1", "x")]) == []
    (held,) = join.take_quarantined()
    assert (held.reason, held.event_source, held.text) == ("ambiguous", None, "")
    assert join.counts["quarantined_ambiguous"] == 1
    assert join.counts["labels"] == 1
    assert num_outcomes(join) == 1
    assert join.num_pending == 2
    approved = RECEIPTS.approved(msgspec.structs.replace(held.feedback, event_source="b"))
    assert pairs(join.match([approved])) == [("B", "x")]


def test_a_label_that_came_twice_is_not_learnt_for_another_event_of_that_id() -> None:
    """B5: it may be of the event that is labelled or of the one that waits, and nobody can tell which."""
    join = make_join()
    assert pairs(join.match([answer("1", "A", source="a"), label("1", "x")])) == [("A", "x")]
    assert join.match([answer("1", "B", source="b"), label("1", "x")]) == []
    assert join.counts["quarantined_ambiguous"] == 1 and join.num_pending == 1


def test_a_quarantined_label_keeps_the_source_of_its_event() -> None:
    """B5: an operator vouches for a label of one event."""
    join = make_join(trust=make_trust(source_labels_per_s=1, source_burst=1))
    join.match([answer("a"), label("a"), answer("b", "B", source="crm"), label("b")])
    (held,) = join.take_quarantined()
    assert (held.reason, held.event_source) == ("over_rate", "crm")
    released = RECEIPTS.approved(held.feedback)
    assert pairs(join.match([answer("b", "another", source="http"), released])) == [("B", "yes")]


def test_what_an_operator_vouches_for_needs_no_receipt() -> None:
    join = make_join()
    forged = label("e", receipt="5.ab")
    assert join.match([answer("e", time_ms=7), forged]) == [] and len(join.match([RECEIPTS.approved(forged)])) == 1


def test_an_answer_from_before_sources_were_kept_is_of_any() -> None:
    old = msgspec.msgpack.encode([["e", "a text", "yes", "stable", 3, "", 5]])
    state = msgspec.structs.replace(make_join().export(), pending=msgspec.Raw(old))
    answered = answer("e", source="crm", time_ms=5)
    for feedback in (label("e"), label("e", event_source="crm"), label_of(answered)):
        join = make_join(state)
        assert len(join.match([answered, feedback, answered])) == 1 and join.counts["answers_repeated"] == 2


def test_one_id_for_everything_costs_no_memory() -> None:
    join = make_join(pending=1_000, parked=1_000)
    true = answer("1", "mine", source="crm")
    join.match([true, *(answer("1", f"text {number}", source="http", time_ms=number) for number in range(50))])
    join.match([label_of(answer("2", time_ms=number)) for number in range(50)])
    assert join.num_pending == SAME_ID
    assert join.num_parked == SAME_ID
    assert join.counts["orphan"] == 50 - SAME_ID
    assert pairs(join.match([label_of(true)])) == [("mine", "yes")]


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
    join = make_join(trust=make_trust(source_labels_per_s=1, source_burst=2, source_share=0.4))
    samples = join.match(records)
    num_labels = sum(isinstance(record, Feedback) for record in records)
    assert join.counts["labels"] == num_labels
    assert num_outcomes(join) == num_labels
    assert len(samples) == join.counts["matched"]
    assert join.num_pending <= 4 and join.num_parked <= 3


ANSWERED = [
    answer(event_id, text, source=source, key=key, time_ms=time_ms)
    for time_ms, (event_id, text, source, key) in enumerate(product(("1", "2"), ("A", "B"), ("crm", "http"), ("", "k")))
]
LABELLED = [
    *(label_of(answered, answered.text) for answered in ANSWERED),
    *(label_of(answered, answered.text, event_source=answered.source) for answered in ANSWERED),
]


@given(st.lists(st.sampled_from([*ANSWERED, *LABELLED])))
def test_a_receipt_is_learnt_for_the_text_that_it_is_of(records: list[Answer | Feedback]) -> None:
    """B5: this holds in any order, and whatever else has the id, or even the id and the source."""
    assert all(text == value for text, value in pairs(make_join(pending=99, parked=99).match(records)))


@given(RECORDS, RECORDS)
def test_a_restored_join_goes_on_as_if_nothing_had_happened(
    before: list[Answer | Feedback], after: list[Answer | Feedback]
) -> None:
    whole = make_join()
    first = make_join()
    first.match(before)
    second = make_join(msgspec.msgpack.decode(msgspec.msgpack.encode(first.export()), type=JoinState))
    assert whole.match(before + after)[first.counts["matched"] :] == second.match(after)
    assert whole.export() == second.export()
