"""Tests the place of a message, and how much of a client's text an error message repeats."""

from wire.message import MAX_SHOWN_CHARS, Place, quote_text


def test_a_place_names_the_log_if_it_is_known() -> None:
    assert str(Place(topic="events.v1", partition=3, offset=7)) == "events.v1/3/7"
    assert str(Place(topic="events.v1", partition=3, offset=7, log="Gq")) == "events.v1/3/7@Gq"


def test_a_long_text_is_truncated_and_escaped() -> None:
    assert quote_text("a\x1b[0m") == r"'a\x1b[0m'"
    assert quote_text("x" * (MAX_SHOWN_CHARS + 1)) == repr("x" * MAX_SHOWN_CHARS + "...")
