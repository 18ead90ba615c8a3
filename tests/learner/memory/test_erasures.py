"""Which subjects are erased, and how far each erasure has come."""

from learner.memory.erasures import ErasedSubjects
from tests.learner.labels.joins import answer, label
from tests.learner.small_learner import SUBJECT_DIGEST
from wire.records import Answer, Feedback


def erased(*subjects: str) -> ErasedSubjects:
    known = ErasedSubjects(SUBJECT_DIGEST)
    for subject in subjects:
        known.add(SUBJECT_DIGEST(subject), time_ms=1)
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


def test_a_version_is_clean_of_the_erasures_that_its_manifest_counts() -> None:
    known = erased("anna", "bert")
    assert known.clean_since == 0
    known.mark_published(7, 1)
    assert [erasure.version for erasure in known] == [7, 0]
    known.mark_published(9, 2)
    assert [erasure.version for erasure in known] == [7, 9]
    assert known.clean_since == 9


def test_a_rollback_makes_what_it_does_not_know_due_again() -> None:
    known = erased("anna", "bert")
    known.mark_published(7, 2)
    known.is_due = False
    known.mark_rolled_back(1)
    assert [erasure.version for erasure in known] == [7, 0]
    assert known.is_due


def test_what_was_exported_is_known_again() -> None:
    known = erased("anna")
    again = ErasedSubjects(SUBJECT_DIGEST, known.export())
    assert list(again) == list(known)
    assert SUBJECT_DIGEST("anna") in again
    assert again.is_due
