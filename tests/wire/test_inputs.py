"""Tests which features an event may have, and when two events have the same content."""

from hypothesis import given
from hypothesis import strategies as st

from wire.inputs import (
    Features,
    decode_content,
    encode_content,
    encoded,
    has_more_than_text,
    is_encoded,
    problem_of_content,
    sent,
)

numbers = st.floats(allow_nan=False, allow_infinity=False)
features = st.dictionaries(st.text(min_size=1, max_size=4), numbers | st.text(max_size=4), max_size=4)
texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]) | st.sampled_from(["\x1e", "{", "}"]), max_size=6)


@given(texts, features)
def test_a_content_has_the_text_and_the_features(text: str, values: Features) -> None:
    assert decode_content(encode_content(text, values)) == {"text": text, "features": values, "parts": ()}


@given(texts, features, texts, features)
def test_different_events_have_different_contents(text: str, values: Features, other: str, others: Features) -> None:
    is_same = (text, repr(sorted(values.items()))) == (other, repr(sorted(others.items())))
    assert (encode_content(text, values) == encode_content(other, others)) is is_same


def test_a_content_without_features_is_the_text_and_names_are_sorted() -> None:
    assert encode_content("hello", {}) == "hello"
    assert encode_content("a", {"x": 1.0, "y": "b"}) == encode_content("a", {"y": "b", "x": 1})


def test_a_text_of_an_earlier_program_that_begins_like_features_is_a_text() -> None:
    for text in ("\x1eno json\x1e", "\x1e[]\x1e", "\x1e7\x1e"):
        assert decode_content(text) == {"text": text, "features": {}, "parts": ()}
        assert (encoded(encode_content(text, {})), has_more_than_text(text)) == (encode_content(text, {}), False)


def test_the_encoder_reads_the_text_and_not_the_features() -> None:
    for text in ("hello", ""):
        content = encode_content(text, {"x": 1.0})
        assert (encoded(content), is_encoded(content), has_more_than_text(content)) == (text, bool(text), True)


def test_a_sent_content_lacks_the_additions_of_enrichers() -> None:
    assert decode_content(sent(encode_content("hello", {"a": 1.0, "past:1:a": 2.0})))["features"] == {"a": 1.0}
    assert sent(encode_content("hello", {"a": 1.0})) == encode_content("hello", {"a": 1.0})


def test_an_event_needs_a_text_or_features() -> None:
    assert problem_of_content("", {"x": 1.0}) == problem_of_content("a", {}) == ""
    assert problem_of_content(" ", {}) == "`text` is blank, and there are no `features`"
