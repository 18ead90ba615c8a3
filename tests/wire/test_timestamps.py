"""Tests the times of records: milliseconds inside, RFC 3339 outside."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import BadMessage
from wire.timestamps import MAX_TIME_MS, clamped_ms, from_rfc3339, is_time, to_rfc3339


@given(st.integers(0, MAX_TIME_MS))
def test_a_time_is_restored_to_the_millisecond(time_ms: int) -> None:
    assert from_rfc3339(to_rfc3339(time_ms)) == time_ms


def test_zones_are_taken_into_account() -> None:
    assert from_rfc3339("1970-01-01T01:00:00+01:00") == 0


@pytest.mark.parametrize("text", ["", "yesterday", "1970-01-01T00:00:00"])
def test_a_text_that_is_not_a_time_with_a_zone_is_refused(text: str) -> None:
    with pytest.raises(BadMessage, match="ce_time"):
        from_rfc3339(text)


@pytest.mark.parametrize("time_ms", [-1, MAX_TIME_MS + 1])
def test_a_time_out_of_range_is_refused(time_ms: int) -> None:
    assert not is_time(time_ms)
    with pytest.raises(ValueError, match="give milliseconds since 1970"):
        to_rfc3339(time_ms)
    assert is_time(clamped_ms(time_ms))
