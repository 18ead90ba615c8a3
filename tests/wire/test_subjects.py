import pytest

from wire.subjects import Subjects


def test_a_subject_has_the_same_digest_everywhere_under_one_key() -> None:
    digest = Subjects(b"key").digest("customer 7")
    assert digest == Subjects(b"key").digest("customer 7") and len(digest) == 32 and digest != "7"
    assert digest not in (Subjects(b"other").digest("customer 7"), Subjects(b"key").digest("customer 8"))


def test_nobody_has_no_digest_and_no_key_makes_none() -> None:
    with pytest.raises(ValueError, match="no subject"):
        Subjects(b"key").digest("")
    with pytest.raises(ValueError, match="signing key"):
        Subjects(b"")
