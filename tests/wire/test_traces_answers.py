"""Tests that a label finds the trace of its answer once, and that unsampled and old traces are not kept."""

import msgspec
import pytest

from tests.wire.samples import answer_to
from wire.records import Answer
from wire.traces import TracedAnswers, find_traceparent

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def traced(event_id: str, source: str = "shop", parent: str = PARENT) -> Answer:
    return msgspec.structs.replace(answer_to(event_id), source=source, headers=(("traceparent", parent),))


@pytest.mark.parametrize(("source", "found"), [("shop", PARENT), (None, PARENT), ("other", "")])
def test_a_label_finds_the_trace_of_its_answer(source: str | None, found: str) -> None:
    answers = TracedAnswers()
    answers.add(traced("a"))
    assert answers.take("b", source) == ""
    assert answers.take("a", source) == found
    assert answers.take("a", "shop") == ("" if found else PARENT)


def test_an_unsampled_trace_is_not_kept() -> None:
    answers = TracedAnswers()
    answers.add(traced("a", parent=PARENT[:-1] + "0"))
    answers.add(answer_to("b"))
    assert answers.take("a", None) == answers.take("b", None) == ""


def test_the_oldest_are_forgotten_first_and_a_later_answer_counts() -> None:
    answers = TracedAnswers(2)
    later = PARENT.replace("00f0", "11f0")
    for each in (traced("a"), traced("b"), traced("a", parent=later), traced("c")):
        answers.add(each)
    assert [answers.take(event_id, None) for event_id in "abc"] == [later, "", PARENT]


def test_other_headers_are_not_a_traceparent() -> None:
    assert find_traceparent((("tracestate", "x"), ("traceparent", "y"))) == "y"
    assert find_traceparent((("tracestate", "x"),)) == ""
