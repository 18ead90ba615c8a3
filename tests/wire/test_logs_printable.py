"""What is shown of a string of others."""

import json

from hypothesis import given
from hypothesis import strategies as st

from wire.logs import printable


@given(st.text())
def test_what_is_shown_is_printable_and_tells_the_characters(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    quoted = shown.replace('"', r"\"")
    if "\\" not in text:
        assert json.loads(f'"{quoted}"') == text


def test_line_breaks_are_kept_if_that_is_asked_for() -> None:
    assert printable("a\n\x1b\tb", keep="\n\t") == "a\n\\u001b\tb"


def test_names_of_people_and_marks_of_direction() -> None:
    assert printable("Zoë 東京") == "Zoë 東京"
    assert printable("refund\u202edelivery\x9b1m") == r"refund\u202edelivery\u009b1m"
