import msgspec
from hypothesis import given
from hypothesis import strategies as st

from learner.config import GuardConfig, LearnerConfig
from learner.guard import Guard
from learner.join import Join, JoinState, is_held_back
from wire.receipts import Receipts
from wire.records import Answer, Feedback

RECEIPTS = Receipts(b"a key for tests")


def join(state: JoinState | None = None, guard: Guard | None = None, **changed: float) -> Join:
    bounds = {"pending_answers": 4, "pending_bytes": 1_000, "parked_feedback": 3, "remembered_ids": 50}
    whole = {name: int(changed.get(name, bound)) for name, bound in bounds.items()}
    return Join(LearnerConfig(held_back_share=0.0, **whole), guard or trusting(), state=state)  # type: ignore[arg-type]


def trusting(**limits: float) -> Guard:
    guard = GuardConfig(**limits)  # type: ignore[arg-type]
    return Guard(LearnerConfig(max_label_chars=20, guard=guard), receipts=RECEIPTS)


def answer(event_id: str, text: str = "a text", label: str | None = "yes") -> Answer:
    return Answer(
        event_id=event_id,
        text=text,
        label=label,
        score=0.5,
        weights_version=3,
        arm="stable",
        precision="int8",
        rollout_revision=1,
    )


def label(event_id: str, value: str = "yes", source: str = "", receipt: str = "") -> Feedback:
    return Feedback(event_id=event_id, label=value, source=source, time_ms=17, receipt=receipt)


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
    assert it.unlabelled() == [f"text {number}" for number in waiting if not is_held_back(f"e{number}", 0.5)]
    assert 0 < len(it.unlabelled()) < len(waiting) == it.num_pending


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
    it = join(pending_answers=1)
    assert it.match([answer("old"), answer("new"), label("old")]) == []
    assert it.counts["late"] == it.counts["answers_expired"] == 1


def test_the_bytes_of_waiting_answers_are_bounded() -> None:
    it = join(pending_bytes=10)
    it.match([answer("a", "x" * 6), answer("b", "y" * 6), answer("c", "z" * 50)])
    assert it.num_pending == 0 and it.counts["answers_expired"] == 3


def test_a_parked_label_that_finds_no_answer_is_an_orphan() -> None:
    it = join()
    it.match([label(str(i)) for i in range(5)])
    assert it.num_parked == 3 and it.counts["orphan"] == 2


def test_blank_and_endless_labels_are_refused() -> None:
    it = join()
    assert it.match([answer("a"), label("a", " \t"), label("a", "x" * 21)]) == []
    assert it.counts["refused_blank"] == it.counts["refused_too_long"] == 1
    assert len(it.match([label("a")])) == 1


def test_the_held_back_share_is_a_function_of_the_event() -> None:
    held_back = [event_id for event_id in map(str, range(10_000)) if is_held_back(event_id, 0.04)]
    assert 330 < len(held_back) < 470
    assert set(held_back) <= {event_id for event_id in map(str, range(10_000)) if is_held_back(event_id, 0.05)}


def test_a_forged_label_takes_nothing_from_the_right_one_whichever_comes_first() -> None:
    forged, right = label("e", "no", receipt="5.ab"), label("e", receipt=RECEIPTS.of("e", time_ms=5, entity="e"))
    orders: list[list[Answer | Feedback]] = [
        [forged, right, answer("e")],
        [forged, answer("e"), right],
        [answer("e"), forged, right],
    ]
    for records in orders:
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


IDS = st.sampled_from([f"event-{i}" for i in range(12)])
VALUES = st.sampled_from(["yes", "no", "", "x" * 30])
LABELS = st.builds(label, IDS, VALUES, st.sampled_from(["", "desk", "bot"]), st.sampled_from(["", "5.ab"]))
RECORDS = st.lists(st.builds(answer, IDS) | LABELS)


@given(RECORDS)
def test_every_label_meets_exactly_one_end(records: list[Answer | Feedback]) -> None:
    it = join(guard=trusting(source_labels_per_s=1, source_burst=2, source_share=0.4))
    samples = it.match(records)
    assert it.counts["labels"] == ends(it) == sum(isinstance(record, Feedback) for record in records)
    assert len(samples) == len({sample.event_id for sample in samples}) == it.counts["matched"]
    assert it.num_pending <= 4 and it.num_parked <= 3


@given(RECORDS, RECORDS)
def test_a_restored_join_goes_on_as_if_nothing_had_happened(
    before: list[Answer | Feedback], after: list[Answer | Feedback]
) -> None:
    whole, first = join(), join()
    first.match(before)
    second = join(msgspec.msgpack.decode(msgspec.msgpack.encode(first.export()), type=JoinState))
    assert whole.match(before + after)[first.counts["matched"] :] == second.match(after)
    assert whole.export() == second.export()
