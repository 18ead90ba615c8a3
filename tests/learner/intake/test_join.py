"""Labels meet their answers: what becomes a sample, what waits, and what comes to nothing."""

import mmh3
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from learner.config import LearnerConfig
from learner.intake.join import Join, JoinState
from learner.samples import HoldoutDraw
from tests.learner.intake.joins import (
    RECEIPTS,
    answer,
    label,
    label_names,
    label_of,
    make_join,
    make_trust,
    num_outcomes,
)
from tests.wire.samples import VERDICTS
from wire.records import Answer, Feedback


def test_a_label_after_its_answer_makes_a_sample() -> None:
    (sample,) = make_join().match([answer("e"), label("e", "no")])
    assert (sample.text, sample.label, sample.predicted_label) == ("a text", "no", "yes")
    assert (sample.arm, sample.weights_version, sample.feedback_time_ms) == ("stable", 3, 17)
    assert not sample.is_correct


def test_texts_wait_for_their_label_but_for_those_of_the_holdout() -> None:
    config = LearnerConfig(holdout_share=0.5)
    join = Join(config, make_trust(), label_names(config))
    join.match([*(answer(f"e{number}", f"text {number}") for number in range(40)), label("e3")])
    waiting = [number for number in range(40) if number != 3]
    learnt = [f"text {number}" for number in waiting if not HoldoutDraw(0.5)(("", f"e{number}"))]
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
    assert late == (
        "1.9% of the last 107 labels came after their answer had left its window: raise learner.pending_bytes"
    )
    assert orphan.startswith("5.6% of the last 107 labels waited for an answer that did not come")


def test_blank_and_endless_labels_are_refused() -> None:
    join = make_join()
    assert join.match([answer("a"), label("a", " \t"), label("a", "x" * 21)]) == []
    assert join.counts["refused_blank"] == 1
    assert join.counts["refused_too_long"] == 1
    assert len(join.match([label("a")])) == 1


def test_the_share_of_the_holdout_is_a_function_of_the_event() -> None:
    holdout = [event_id for event_id in map(str, range(10_000)) if HoldoutDraw(0.04)(("", event_id))]
    assert 330 < len(holdout) < 470  # 400, give or take 3.5 standard deviations
    assert set(holdout) <= {event_id for event_id in map(str, range(10_000)) if HoldoutDraw(0.05)(("", event_id))}
    assert set(holdout) != {event_id for event_id in map(str, range(10_000)) if HoldoutDraw(0.04)(("crm", event_id))}


def test_the_holdout_of_events_without_a_source_is_that_of_their_ids() -> None:
    """B5: figures and checkpoints from before an event had a source stay comparable."""
    ids = [f"event-{number}" for number in range(1_000)]
    before = {event_id for event_id in ids if mmh3.hash(event_id, 0x6865_6C64, signed=False) < 0.04 * 2**32}
    assert before == {event_id for event_id in ids if HoldoutDraw(0.04)(("", event_id))}


def test_a_forged_label_takes_nothing_from_the_right_one_whichever_comes_first() -> None:
    forged = label("e", "no", receipt="5.ab")
    right = label("e", receipt=RECEIPTS.of("e", time_ms=5, entity="e", verdicts=VERDICTS))
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


def test_what_an_operator_vouches_for_needs_no_receipt() -> None:
    join = make_join()
    forged = label("e", receipt="5.ab")
    assert join.match([answer("e", time_ms=7), forged]) == [] and len(join.match([RECEIPTS.approved(forged)])) == 1


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
