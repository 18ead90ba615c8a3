"""An answer and its label become a sample; what is known of a label that is not believed goes along with it."""

from learner.samples import HoldoutDraw, Waiting, make_quarantined, make_sample
from tests.learner.intake.joins import answer, label
from wire.events import MAX_LATER_TIMES
from wire.records import MAX_TEXT_CHARS


def test_a_sample_has_the_text_of_the_answer_and_the_label_of_the_feedback() -> None:
    waiting = Waiting.from_answer(answer("e", "my text", "no", source="crm", key="k", time_ms=5))
    sample = make_sample(waiting, label("e", "yes", "desk"), HoldoutDraw(0.0))
    assert (sample.text, sample.label, sample.predicted_label) == ("my text", "yes", "no")
    assert (sample.key, sample.subject, sample.source) == (("crm", "e"), "k", "desk")
    assert sample.is_answered
    assert not sample.is_correct


def test_a_label_with_its_text_is_a_sample_without_an_answer() -> None:
    waiting = Waiting.from_label(label("e", text="x" * (MAX_TEXT_CHARS + 1)))
    sample = make_sample(waiting, label("e"), HoldoutDraw(0.0))
    assert len(sample.text) == MAX_TEXT_CHARS
    assert not sample.is_answered


def test_the_holdout_is_a_share_that_is_the_same_each_time() -> None:
    keys = [("crm", str(number)) for number in range(10_000)]
    chosen = [HoldoutDraw(0.04)(key) for key in keys]
    assert 300 < sum(chosen) < 500
    assert chosen == [HoldoutDraw(0.04)(key) for key in keys]
    assert not any(HoldoutDraw(0.0)(key) for key in keys)


def test_another_text_or_entity_is_another_event() -> None:
    waiting = Waiting.from_answer(answer("e", "one", source="crm"))
    assert waiting.is_same_event(answer("e", "one", source="crm"))
    for other in (answer("e", "two", source="crm"), answer("e", "one", source="crm", key="k"), answer("e", "one")):
        assert not waiting.is_same_event(other)


def test_the_times_of_repeats_are_kept_up_to_a_number() -> None:
    waiting = Waiting.from_answer(answer("e", time_ms=1))
    for time_ms in range(2, 30):
        waiting = waiting.with_repeat(answer("e", time_ms=time_ms))
    assert waiting.times_ms == (1, *range(30 - MAX_LATER_TIMES, 30))


def test_a_label_that_is_not_believed_names_what_it_labels() -> None:
    known = make_quarantined("flip", label("e"), Waiting.from_answer(answer("e", "my text", "no", source="crm")))
    assert (known.reason, known.text, known.answered, known.event_source) == ("flip", "my text", "no", "crm")
    unknown = make_quarantined("forged", label("e", event_source="desk"))
    assert (unknown.text, unknown.answered, unknown.event_source) == ("", None, "desk")


def test_nobody_without_the_secret_can_tell_what_is_in_the_holdout() -> None:
    """N7: senders choose ids, and so chose which of their labels judge versions and are never learnt."""
    keys = [("http", f"ticket-{number}") for number in range(10_000)]
    unkeyed = set(filter(HoldoutDraw(0.08), keys))
    one = set(filter(HoldoutDraw(0.08, b"one"), keys))
    other = set(filter(HoldoutDraw(0.08, b"other"), keys))
    assert all(700 < len(drawn) < 900 for drawn in (unkeyed, one, other))
    assert all(len(one & known) < 100 for known in (unkeyed, other))
    assert one == set(filter(HoldoutDraw(0.08, b"one"), keys))
