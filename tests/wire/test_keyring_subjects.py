import pytest

from wire.keyring import subject_digest


def test_a_subject_has_the_same_digest_everywhere_under_one_key() -> None:
    digest = subject_digest(b"key", "customer 7")
    assert digest == subject_digest(b"key", "customer 7") and len(digest) == 32 and digest != "7"
    assert digest not in (subject_digest(b"other", "customer 7"), subject_digest(b"key", "customer 8"))


def test_an_empty_subject_and_an_empty_key_are_refused() -> None:
    with pytest.raises(ValueError, match="no subject"):
        subject_digest(b"key", "")
    with pytest.raises(ValueError, match="needs a key"):
        subject_digest(b"", "customer 7")
