"""Tests the figures that the page shows of a demo, from its ledger."""

from evals.load.ledger import Ledger
from evals.load.score import Hits
from evals.streams.stream import StreamItem
from services.demo.command import AS_GIVEN, DemoFeed, finished_rounds
from services.demo.options import DemoOptions
from tests.evals.load.test_ledger import answer


def test_a_round_is_over_when_all_of_its_stages_were_answered() -> None:
    hits = {(-1, 0): Hits(9, 9, 9), (0, 0): Hits(4, 4, 3), (1, 0): Hits(4, 4, 3), (2, 0): Hits(4, 3, 3)}
    assert finished_rounds(hits) == {(0, 0): Hits(4, 4, 3)}
    assert finished_rounds(hits | {(1, 1): Hits(2, 2, 2)}).keys() == {(0, 0), (1, 0), (1, 1)}


def test_it_shows_what_was_right_as_given() -> None:
    stream = DemoOptions(events=100).stream(None, 0)
    feed = DemoFeed(stream)
    assert feed().title == f"Lifelong demo: {stream.name}"
    ledger = Ledger("run")
    feed.follow(ledger)
    assert feed().figures[0].value is None
    for number, label in enumerate(("yes", "no")):
        event_id = ledger.record_event(StreamItem("a text", "yes"), stage=0, time_ms=5_000)
        ledger.record_answer(answer(event_id, label), read_ms=5_100 + number)
    state = feed()
    assert state.figures[0].value == 0.5
    curve, tests = state.curves
    assert (curve.name, curve.seconds, curve.values, tests.values) == (AS_GIVEN, (5.0,), (0.5,), ())
    assert state.tables["matrix"].rows == ()
