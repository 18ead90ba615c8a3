"""The verdicts of a label without a receipt: it meets its answer, which may be late, early or missing."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.label_join import make_source_quota
from tests.rollout.joined import Judged, answer, feedback
from wire.config import LabelConfig, TrustConfig
from wire.label_set import LabelSet
from wire.records import CANDIDATE, STABLE, STAND_IN, Feedback


def test_answers_of_a_stand_in_say_nothing_of_either_arm() -> None:
    """B1: a replica without the stable version answers with another, which must not be judged as the stable one."""
    window = Judged()
    window.add(answer("a", arm=STAND_IN, version=7))
    window.add(feedback("a"))
    assert not window.found
    assert window.counts["answer_of_stand_in"] == 1


def test_an_answer_without_verdicts_is_evidence_for_nobody() -> None:
    window = Judged()
    for receipt in ("", "7.ab"):
        window.add(msgspec.structs.replace(answer("a"), receipt=receipt))
    window.add(feedback("a"))
    assert (window.num_judged(), window.counts["answer_without_verdicts"]) == ((0, 0), 2)


def test_label_before_its_answer_counts() -> None:
    window = Judged()
    window.add(feedback("a"))
    window.add(answer("a"))
    assert window.num_judged() == (1, 1)


def test_repeated_labels_and_answers_count_once() -> None:
    window = Judged()
    for _ in range(2):
        window.add(answer("a"))
        window.add(answer("a", "no", version=2))
    for _ in range(3):
        window.add(feedback("a"))
    window.add(answer("a"))
    assert window.num_judged() == (1, 1)
    assert window.counts == {"judged": 1, "answer_repeated": 3, "answer_judged_before": 1, "label_repeated": 2}


@pytest.mark.parametrize("delay", [0, 3_900, 8_000, 80_000])
def test_labels_are_met_by_answers_however_late_they_are(delay: int) -> None:
    """B1: 4,000 answers may wait; each doubling of age halves the share of the answers that still do."""
    window = Judged(4_000)
    total = delay + 20_000
    for number in range(total):
        window.add(answer(str(number)))
        if number >= delay:
            window.add(feedback(str(number - delay)))
    judged = window.counts["judged"]
    assert judged + window.counts["answer_dropped"] >= total - 4_000
    assert judged >= 20_000 * (min(1.0, 250 / delay) if delay >= 4_000 else 1.0)


def test_a_label_that_is_too_many_of_its_source_leaves_its_answer_to_the_others() -> None:
    """B10: labels of a flooding source decided alone."""
    window = Judged(quota_refusal=make_source_quota(TrustConfig(source_labels_per_s=1.0, source_burst=1), share=0.5))
    for number in (1, 2):
        window.add(answer(str(number)))
        window.add(msgspec.structs.replace(feedback(str(number)), source="bot"))
    assert window.num_judged() == (1, 1)
    assert window.counts["label_over_rate"] == 1
    window.add(msgspec.structs.replace(feedback("2"), source="desk"))
    assert window.num_judged() == (2, 2)


def test_what_waits_is_bounded() -> None:
    window = Judged(100)
    for number in range(10_000):
        window.add(answer(f"answered-{number}"))
        window.add(feedback(f"labelled-{number}"))
    assert len(window._answers) <= 100
    assert len(window._by_id) <= 100
    assert len(window._labels) <= 100
    for number in range(1_000):
        window.add(answer(f"both-{number}"))
        window.add(feedback(f"both-{number}"))


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(1, 20), st.integers(0, 9))
def test_what_waits_is_found_by_key_and_by_id_alike(ids: list[int], max_unlabelled: int, seed: int) -> None:
    window = Judged(max_unlabelled, seed=seed)
    for turn, number in enumerate(ids):
        record = answer(f"{number % 7}", source=f"{number % 3}") if turn % 2 else feedback(f"{number % 7}")
        window.add(record)
        assert {each.number: each for same in window._by_id.values() for each in same} == window._answers


@pytest.mark.parametrize("event_source", [None, "shop", "desk"])
def test_a_label_counts_for_the_event_of_its_source(event_source: str | None) -> None:
    """B5: two producers number their events alike; a label that does not name one of them counts for neither."""
    window = Judged()
    window.add(answer("1", "yes", arm=STABLE, source="shop"))
    window.add(answer("1", "no", arm=CANDIDATE, version=2, source="desk"))
    window.add(feedback("1", "yes", event_source=event_source))
    expected = {None: (0, 0), "shop": (1, 0), "desk": (0, 1)}[event_source]
    assert (window.num_judged(1)[0], window.num_judged(2)[0]) == expected
    assert window.counts["label_ambiguous"] == (event_source is None)


def test_a_label_whose_receipt_is_of_another_answer_counts_for_nobody() -> None:
    """B5: a genuine receipt of another answer does not count; both receipts of an event answered twice do."""
    window = Judged()
    window.add(answer("1", time_ms=5))
    window.add(answer("1", time_ms=7))
    window.add(feedback("1", receipt="6.ab"))
    window.add(feedback("1", key="other", receipt="5.ab"))
    assert window.num_judged() == (0, 0)
    window.add(feedback("1", receipt="7.ab"))
    assert window.num_judged() == (1, 1)
    for receipt in ("5.ab", "7.ab", ""):
        window.add(feedback("1", receipt=receipt))
    assert window.counts["label_repeated"] == 3


@pytest.mark.parametrize("later", [{"text": "where is my refund"}, {"key": "another customer"}])
@pytest.mark.parametrize("is_later_labelled", [False, True])
def test_another_event_under_a_name_has_an_answer_of_its_own(later: dict[str, str], is_later_labelled: bool) -> None:
    """B5: all who ask by HTTP share a source. A label counts for the answer whose receipt it has."""
    window = Judged()
    answers = (
        answer("1", "no", arm=CANDIDATE, version=2, time_ms=5),
        msgspec.structs.replace(answer("1", "yes", time_ms=7), **later),
    )
    for each in answers:
        window.add(each)
    window.add(feedback("1"))
    assert window.counts["label_ambiguous"] == 1
    labelled = answers[is_later_labelled]
    for _ in range(2):
        window.add(feedback("1", event_source="", key=labelled.key, receipt=f"{labelled.time_ms}.ab"))
    expected = ((0, 0), (1, 1)) if is_later_labelled else ((1, 0), (0, 0))
    assert (window.num_judged(2), window.num_judged(1)) == expected
    other = answers[not is_later_labelled]
    window.add(other)
    window.add(feedback("1", event_source="", key=other.key, receipt=f"{other.time_ms}.ab"))
    assert (window.num_judged(2), window.num_judged(1)) == ((1, 0), (1, 1))


def test_one_name_for_everything_neither_grows_nor_drives_out_other_events() -> None:
    """B22: a client that gives each event the same id costs no more than the others, and no label counts twice."""
    window = Judged(50)
    window.add(answer("other"))
    window.add(feedback("other"))
    for number in range(1_000):
        window.add(answer("ping", time_ms=number))
        window.add(msgspec.structs.replace(answer("pong", time_ms=number), text=f"text {number}"))
    (ping,) = window._by_id["ping"]
    assert ping.times_ms == (0, *range(993, 1_000)) and len(window._by_id["pong"]) == 8
    window.add(feedback("ping", receipt=f"{999:x}.ab"))
    window.add(answer("other"))
    window.add(feedback("other"))
    assert window.num_judged() == (2, 2) and window.counts["label_repeated"] == 1


def test_a_label_before_its_answer_waits_for_the_one_that_it_is_of() -> None:
    """B5: an id alone does not identify an event."""
    window = Judged()
    window.add(feedback("1", "yes", event_source="shop"))
    window.add(answer("1", "no", source="desk"))
    assert window.num_judged() == (0, 0)
    window.add(answer("1", "yes", source="shop"))
    assert window.num_judged() == (1, 1)


def test_an_answer_without_a_label_is_wrong() -> None:
    window = Judged(3)
    window.add(answer("a", None))
    window.add(feedback("a"))
    assert window.num_judged() == (1, 0)


def correction(event_id: str, label: str, *, event_source: str | None = "", approval: str = "ab") -> Feedback:
    return msgspec.structs.replace(feedback(event_id, label, event_source=event_source), approval=approval)


def test_an_approved_label_takes_the_place_of_the_one_before() -> None:
    window = Judged()
    window.add(answer("a"))
    window.add(feedback("a", "no"))
    window.add(correction("a", "yes"))
    first, second = window.found
    assert second.corrected == first
    assert (first.correctness(), second.correctness()) == ({1: False}, {1: True})
    window.add(correction("a", "yes"))
    window.add(correction("a", "no"))
    last = window.found[-1].corrected
    assert last is not None and (last.name, last.corrected) == (second.name, None), "they do not pile up"
    assert window.counts == {"judged": 1, "corrected": 2, "label_repeated": 1}


@pytest.mark.parametrize(
    "label",
    [
        pytest.param(correction("a", "yes", approval=""), id="without an approval"),
        pytest.param(correction("a", "yes", event_source=None), id="without a source or receipt: of which event?"),
        pytest.param(correction("a", "yes", event_source="other"), id="another event"),
    ],
)
def test_any_other_label_of_a_judged_event_is_none_of_it(label: Feedback) -> None:
    window = Judged()
    window.add(answer("a"))
    window.add(feedback("a", "no"))
    window.add(label)
    assert len(window.found) == 1


def test_verdicts_and_labels_are_compared_by_the_names_of_now() -> None:
    """A version from before a rename named the class rightly under its old name; so did a merged one."""
    window = Judged()
    window.add(answer("a", "old", version=1))
    window.follow(LabelSet(meanings={"old": "new", "other": "new"}))
    window.add(feedback("a", "new"))
    window.add(answer("b", "other", version=1))
    window.add(feedback("b", "new"))
    window.add(answer("c", "third", version=1))
    window.add(feedback("c", "new"))
    assert window.num_judged() == (3, 2)


def test_a_set_of_labels_meets_the_set_that_was_answered_by_the_names_of_now() -> None:
    window = Judged()
    for number in range(200):
        window.add(answer(f"e{number}", labels=("a", "b", "old")))
        window.add(Feedback(event_id=f"e{number}", labels=("a", "c") if number % 2 else ("a", "b", "new")))
    window_renamed = Judged()
    window_renamed.follow(LabelSet(LabelConfig(kind="multilabel"), meanings={"old": "new"}))
    for number in range(200):
        window_renamed.add(answer(f"e{number}", labels=("a", "b", "old")))
        window_renamed.add(Feedback(event_id=f"e{number}", labels=("a", "b", "new")))
    assert window_renamed.num_judged() == (200, 200)
    num, right = window.num_judged()
    assert num == 200
    assert right / num == pytest.approx((2 / 5 + 4 / 6) / 2, abs=0.12)


def test_a_corrected_set_of_labels_takes_the_place_of_the_one_before() -> None:
    window = Judged()
    window.add(answer("e", labels=("a", "b")))
    window.add(Feedback(event_id="e", labels=("c",)))
    for _ in range(2):
        window.add(Feedback(event_id="e", labels=("b", "a"), approval="checked before", event_source=""))
    first, second = window.found
    assert (first.correctness()[1], second.correctness()[1]) == (False, True)
    assert second.corrected == first
    assert window.counts["label_repeated"] == 1
