"""The events that were judged: each counts once, and may be corrected, also after a restart."""

import msgspec
import pytest

from lifelong.plugins.kinds.scores import unit_bits
from rollout import judged_events
from rollout.judged_events import JudgedEvent, JudgedEvents, JudgedLabel
from wire.receipts import Verdicts
from wire.records import STABLE


def label(events: JudgedEvents) -> JudgedLabel:
    verdicts = Verdicts(STABLE, 4, ((4, 7), (6, 8)))
    return JudgedLabel(verdicts=verdicts, name=8, source="desk", answer_ms=1_000, number=events.next_number())


def make_events(names: str, *, seed: int = 3) -> JudgedEvents:
    """Returns an event for each letter, known by it alone."""
    events = JudgedEvents(100, seed=seed)
    for name in names:
        events.add([name.encode()], label(events))
    return events


def stored(events: JudgedEvents, last_number: int) -> JudgedEvents:
    """Returns what a later program knows of what was not saved yet."""
    saved = msgspec.json.decode(msgspec.json.encode(events.unsaved), type=list[JudgedEvent])
    return JudgedEvents(100, seed=events.seed, events=saved, last_number=last_number)


def test_what_was_saved_is_known_after_a_restart() -> None:
    events = make_events("ab")
    first = events.find(b"a")
    assert first is not None
    events.correct(first, label(events))
    again = stored(events, last_number=3)
    assert [name in again for name in (b"a", b"b", b"c")] == [True, True, False]
    for name, number in ((b"a", 3), (b"b", 2)):
        event = again.find(name)
        assert event is not None and event.label.number == number
    assert again.next_number() == 4
    assert not again.unsaved


def test_only_what_came_since_is_saved() -> None:
    events = make_events("ab")
    events.mark_saved()
    events.add([b"c", b"d"], label(events))
    (event,) = events.unsaved
    assert event.label.number == 3 and len(event.aliases) == 2


def test_what_may_be_corrected_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judged_events, "MAX_EVENTS", 2)
    events = make_events("abcd")
    assert [events.find(name.encode()) is not None for name in "abcd"] == [False, False, True, True]
    assert b"a" in events, "that it was judged is known for longer"


def test_of_two_events_of_one_name_the_later_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judged_events, "MAX_EVENTS", 2)
    events = make_events("aab")
    event = events.find(b"a")
    assert event is not None and event.label.number == 2
    events.add([b"c"], label(events))
    assert events.find(b"a") is None


def test_of_a_set_of_labels_versions_are_right_as_far_as_the_draw_asks_also_after_a_restart() -> None:
    verdicts = Verdicts(STABLE, 4, ((4, (7, 8)), (5, (7,)), (6, (9,)), (7, 0)))
    events = JudgedEvents(100, seed=3)
    for number, draw in enumerate((0.1, 0.7)):
        each = JudgedLabel(
            verdicts=verdicts,
            name=1,
            kind="multilabel",
            labelled=(7, 8),
            draw=draw,
            source="desk",
            answer_ms=1,
            number=number,
        )
        events.add([b"ab"[number : number + 1]], each)
    again = stored(events, last_number=1)
    found = [event.label.correctness() for name in (b"a", b"b") if (event := again.find(name)) is not None]
    assert found == [{4: True, 5: True, 6: False, 7: False}, {4: True, 5: False, 6: False, 7: False}]


def test_of_a_score_versions_are_right_as_far_as_the_draw_asks() -> None:
    verdicts = Verdicts(STABLE, 4, ((4, unit_bits(0.5)), (5, unit_bits(0.9)), (6, 0)))
    each = JudgedLabel(
        verdicts=verdicts, name=1, kind="score", labelled=unit_bits(0.5), draw=0.7, source="desk", answer_ms=1
    )
    saved = msgspec.json.decode(msgspec.json.encode(each), type=JudgedLabel)
    assert saved.correctness() == each.correctness() == {4: True, 5: False, 6: False}
