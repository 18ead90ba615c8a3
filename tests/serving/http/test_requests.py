"""The headers that say how a client asks."""

import pytest

from serving.http.problems import RequestRefused
from serving.http.requests import parse_priority, read_timeout_s, read_traceparent
from serving.queue import Priority


@pytest.mark.parametrize(("text", "seconds"), [("1", 0.001), ("0250", 0.25), ("3600000", 3_600.0)])
def test_a_deadline_is_a_number_of_milliseconds(text: str, seconds: float) -> None:
    assert read_timeout_s({"x-request-timeout-ms": text}) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "0", "-5", "1.5", "1e3", "3600001", "9" * 40, "\u0661", "\u00b2"])
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(RequestRefused, match="x-request-timeout-ms"):
        read_timeout_s({"x-request-timeout-ms": text})


def test_without_a_header_there_is_no_deadline() -> None:
    assert read_timeout_s({}) is None


def test_priorities_are_a_fixed_set() -> None:
    assert [parse_priority(name) for name in ("high", "NORMAL", "Low")] == [*Priority]
    with pytest.raises(RequestRefused, match="x-priority"):
        parse_priority("urgent")


def test_a_trace_is_a_short_text() -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert read_traceparent({"traceparent": trace}) == trace
    assert (
        read_traceparent({})
        == read_traceparent({"traceparent": 129 * "0"})
        == read_traceparent({"traceparent": "\u00e9"})
        == ""
    )
