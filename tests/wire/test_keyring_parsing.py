"""Tests the text of a ring: writing and parsing are inverse, and errors do not show a secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.keyring import Key, KeyRing, Kind, new_key, new_ring, parse

OLD = new_ring()


def test_a_text_of_one_secret_is_the_shared_secret_of_earlier_releases() -> None:
    for text in ("correct horse, battery staple", "two\nlines of base64==", "k" * 16, "a:b"):
        assert parse(text) == KeyRing((Key(Kind.SHARED, text.encode()),))
        assert parse(text).text != text and parse(parse(text).text) == parse(text)


@given(st.permutations([*Kind]), st.sampled_from(["\n", ",", ", ", "\n# a remark\n"]))
def test_a_ring_is_read_as_it_is_written(kinds: list[Kind], between: str) -> None:
    ring = KeyRing(tuple(new_key(kind) for kind in kinds))
    assert parse(ring.text) == ring
    assert parse(between.join(key.line for key in ring.keys)) == ring
    assert not any(secret in repr(ring) for secret in ring.secrets)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the text of the keys is empty"),
        (OLD.text.replace("ed25519-secret", "ed25519-sekret"), "line 1, key 1: begins with no kind of key"),
        (OLD.text.replace("\n", "0,", 1), r"line 1, key 1: the text after ed25519-secret: is not hexadecimal"),
        (OLD.text.replace("receipt-secret:", "receipt-secret:00"), "line 2, key 1: receipt-secret needs 64"),
        (OLD.keys[1].line, "neither ed25519-secret nor ed25519-public"),
        (OLD.keys[0].line, "there is no receipt-secret"),
        (",".join(new_key(Kind.PUBLIC).line for _ in range(33)), "33 keys are more than 32"),
    ],
    ids=["empty", "word", "digits", "length", "none that verifies", "no receipts", "too many"],
)
def test_an_invalid_ring_is_refused_with_the_place_and_without_a_secret(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        parse(text)
    assert not any(secret in str(caught.value) for secret in OLD.secrets)
