"""Which subjects are erased, and what of their records is left."""

import msgspec

from learner.intake.erasures import ErasedSubjects
from tests.learner.intake.joins import answer, label, make_join
from tests.learner.small_learner import SUBJECT_DIGEST
from wire.records import Answer, Feedback


def erased(*subjects: str) -> ErasedSubjects:
    known = ErasedSubjects(SUBJECT_DIGEST)
    for subject in subjects:
        known.add(SUBJECT_DIGEST(subject))
    return known


def test_only_an_erased_subject_is_held() -> None:
    known = erased("anna")
    assert known.holds("anna")
    assert not known.holds("bert")
    assert not known.holds("")
    assert known.is_due


def test_answers_about_it_are_skipped_and_labels_lose_their_text() -> None:
    skipped: list[Answer] = []
    about = label("e", text="my text")
    records: list[Answer | Feedback] = [answer("a", key="anna"), answer("b", key="bert"), about]
    left = list(erased("anna").without_erased(records, skipped.append))
    assert (left, skipped) == ([records[1], about], [records[0]])


NAMES = frozenset(
    (
        "event_id",
        "label",
        "target",
        "key",
        "source",
        "time_ms",
        "receipt",
        "approval",
        "event_source",
        "labels",
        "value",
        "task",
        "replaces",
    )
)
"""What a label has that is not of what its event says: who, when, and the label itself."""


def test_nothing_that_an_event_says_is_left_in_a_label_about_an_erased_subject() -> None:
    """N1: a new field of a label is a name, or goes with the text."""
    names = {name: getattr(label("e"), name) for name in NAMES}
    full = Feedback(**names | {"key": "anna"}, text="my text", features={"iban": "DE00"}, parts=({"type": "scan"},))
    full = msgspec.structs.replace(full, answered="no", proof="code")
    (left,) = erased("anna").without_erased([full], lambda _answer: None)
    changed = {name for name in Feedback.__struct_fields__ if getattr(left, name) != getattr(full, name)}
    assert changed == set(Feedback.__struct_fields__) - NAMES
    assert make_join().match([msgspec.structs.replace(left, key="anna")]) == []


def test_features_of_an_erased_subject_are_not_learnt() -> None:
    """N1."""
    with_features = msgspec.structs.replace(label("e"), key="anna", features={"iban": "DE00", "income": 10.0})
    assert len(make_join().match([with_features])) == 1
    join = make_join()
    assert join.match(list(erased("anna").without_erased([with_features], join.skip))) == []
    assert join.export().labels[0].features == {}
