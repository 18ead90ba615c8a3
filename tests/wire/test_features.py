"""Tests of what the features of an event may be, and of the content that makes two events alike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.features import (
    MAX_FEATURE_BYTES,
    MAX_FEATURES,
    Features,
    content_of,
    parts_of,
    problem_of,
    problem_of_content,
)

numbers = st.floats(allow_nan=False, allow_infinity=False)
features = st.dictionaries(st.text(min_size=1, max_size=4), numbers | st.text(max_size=4), max_size=4)
texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]) | st.sampled_from(["\x1e", "{", "}"]), max_size=6)


@given(texts, features)
def test_a_content_tells_text_and_features(text: str, values: Features) -> None:
    assert parts_of(content_of(text, values)) == (text, values)


@given(texts, features, texts, features)
def test_what_differs_has_another_content(text: str, values: Features, other: str, others: Features) -> None:
    is_same = (text, repr(sorted(values.items()))) == (other, repr(sorted(others.items())))
    assert (content_of(text, values) == content_of(other, others)) is is_same


def test_a_content_without_features_is_the_text_and_the_order_of_names_is_nothing() -> None:
    assert content_of("hello", {}) == "hello"
    assert content_of("a", {"x": 1.0, "y": "b"}) == content_of("a", {"y": "b", "x": 1})


def test_a_text_of_an_earlier_program_that_begins_like_features_is_a_text() -> None:
    assert parts_of("\x1eno json\x1e") == ("\x1eno json\x1e", {})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({f"x{place}": 0.0 for place in range(MAX_FEATURES + 1)}, "1025 values, at most 1024"),
        ({" ": 1.0}, "a name that is blank"),
        ({"n" * (MAX_FEATURE_BYTES + 1): 1.0}, "has 257 bytes"),
        ({"city": "\u00e9" * MAX_FEATURE_BYTES}, "longer ones are text"),
        ({"price": float("inf")}, "not finite: leave out what is not known"),
    ],
)
def test_what_is_refused_is_said_with_what_to_do(values: Features, said: str) -> None:
    assert said in problem_of(values)


def test_an_event_needs_a_text_or_features() -> None:
    assert problem_of_content("", {"x": 1.0}) == problem_of_content("a", {}) == ""
    assert problem_of_content(" ", {}) == "`text` is blank, and there are no `features`"
