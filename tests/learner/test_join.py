import msgspec
from hypothesis import given
from hypothesis import strategies as st

from learner.join import Join, JoinState, is_held_back
from wire.records import Answer, Feedback


def join(state: JoinState | None = None, **changed: float) -> Join:
    bounds = {"pending_answers": 4, "pending_bytes": 1_000, "parked_feedback": 3, "remembered_ids": 50}
    whole = {name: int(changed.get(name, bound)) for name, bound in bounds.items()}
    return Join(max_label_chars=20, held_back_share=changed.get("held_back_share", 0.0), state=state, **whole)


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


def label(event_id: str, value: str = "yes") -> Feedback:
    return Feedback(event_id=event_id, label=value, time_ms=17)


def test_a_label_after_its_answer_makes_a_sample() -> None:
    (sample,) = join().match([answer("e"), label("e", "no")])
    assert (sample.text, sample.label, sample.predicted_label) == ("a text", "no", "yes")
    assert (sample.arm, sample.weights_version, sample.feedback_time_ms) == ("stable", 3, 17)
    assert not sample.is_correct


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


IDS = st.sampled_from([f"event-{i}" for i in range(12)])
RECORDS = st.lists(st.builds(answer, IDS) | st.builds(label, IDS, st.sampled_from(["yes", "no", "", "x" * 30])))


@given(RECORDS)
def test_every_label_meets_exactly_one_end(records: list[Answer | Feedback]) -> None:
    it = join()
    samples = it.match(records)
    ends = ("matched", "late", "duplicate", "orphan", "refused_blank", "refused_too_long")
    assert it.counts["labels"] == sum(isinstance(record, Feedback) for record in records)
    assert it.counts["labels"] == sum(it.counts[end] for end in ends) + it.num_parked
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
