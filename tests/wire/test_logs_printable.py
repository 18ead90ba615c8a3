"""Tests how strings from outside are escaped."""

import json

from hypothesis import given
from hypothesis import strategies as st

from wire.logs import printable


@given(st.text())
def test_the_result_is_printable_and_reversible(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    quoted = shown.replace('"', r"\"")
    if "\\" not in text:
        assert json.loads(f'"{quoted}"') == text


def test_line_breaks_are_kept_on_request() -> None:
    assert printable("a\n\x1b\tb", keep="\n\t") == "a\n\\u001b\tb"


def test_names_of_people_and_marks_of_direction() -> None:
    assert printable("Zoë 東京") == "Zoë 東京"
    assert printable("refund\u202edelivery\x9b1m") == r"refund\u202edelivery\u009b1m"
