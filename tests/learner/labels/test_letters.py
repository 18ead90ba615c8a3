"""What is said to operators is said at least once, and keeps nobody waiting."""

import time

import pytest

from learner.labels.letters import MAX_BYTES, Letters, LetterSender, LettersState
from tests.brokers import take
from wire.bus import Bus
from wire.config import BusConfig
from wire.errors import BusUnavailable, SendFailed
from wire.letters import MAX_LETTER_BYTES
from wire.records import DeadLetter, Quarantined

GONE = SendFailed("too large", is_permanent=True)


def quarantined(number: int) -> Quarantined:
    return Quarantined(reason="forged", event_id=f"event-{number}", label="a lie", source="bot", time_ms=7)


def dead_letter(number: int, *, num_bytes: int = 10) -> DeadLetter:
    return DeadLetter(
        reason="undecodable",
        detail="no JSON",
        topic="feedback.v1",
        partition=0,
        offset=number,
        payload=b"x" * num_bytes,
        source="learner",
        time_ms=7,
    )


def filled(*letters: Quarantined | DeadLetter) -> Letters:
    it = Letters()
    it.add(letters)
    return it


def taken(it: Letters) -> tuple[int, Quarantined | DeadLetter]:
    found = it.take(1.0)
    assert found is not None
    return found


def test_a_letter_waits_until_it_is_acknowledged() -> None:
    """B17: what is not acknowledged is part of the checkpoint, on its way or not."""
    it = filled(quarantined(1), dead_letter(2))
    number, first = taken(it)
    assert first == quarantined(1) and it.counts["letters_waiting"] == 2
    assert it.export() == LettersState(quarantined=[quarantined(1)], dead_letters=[dead_letter(2)])
    it.settle(number, None)
    assert it.export() == LettersState(dead_letters=[dead_letter(2)]) and not it.wait_until_empty(0.0)
    it.settle(taken(it)[0], None)
    assert it.wait_until_empty(0.0) and it.take(0.0) is None


def test_a_letter_that_was_not_taken_is_sent_again() -> None:
    it = filled(quarantined(1))
    for error in (BusUnavailable("away"), SendFailed("not in time")):
        number, letter = taken(it)
        assert letter == quarantined(1) and it.take(0.0) is None
        it.settle(number, error)
    assert taken(it)[1] == quarantined(1)


def test_restored_letters_are_sent_again_and_what_was_on_its_way_before_is_not_asked_for() -> None:
    """B17: at least once."""
    it = filled(quarantined(1), quarantined(2))
    before = it.export()
    number, _ = taken(it)
    it.restore(before)
    it.settle(number, None)
    assert it.export() == before and [taken(it)[1] for _ in range(2)] == [quarantined(1), quarantined(2)]


def test_what_can_never_be_sent_becomes_a_short_letter_and_then_nothing() -> None:
    """B17: nothing stands still for one record."""
    it = filled(dead_letter(1, num_bytes=MAX_LETTER_BYTES), quarantined(2))
    it.settle(taken(it)[0], GONE)
    it.settle(taken(it)[0], GONE)
    cut = taken(it)
    quarantine = taken(it)
    assert isinstance(cut[1], DeadLetter) and cut[1].offset == 1 and len(cut[1].payload) < 100_000
    assert isinstance(quarantine[1], DeadLetter) and quarantine[1].reason == "unsendable"
    assert b"a lie" in quarantine[1].payload and it.counts["letters_shortened"] == 2
    it.settle(cut[0], GONE)
    assert it.counts["letters_lost"] == 1 == it.counts["letters_waiting"]


def test_the_letters_are_bounded_in_bytes() -> None:
    """B17, B22."""
    it = filled(dead_letter(1, num_bytes=MAX_BYTES - 5_000))
    full = [it.is_full]
    it.add([dead_letter(2, num_bytes=5_000)])
    full.append(it.is_full)
    it.settle(taken(it)[0], None)
    assert [*full, it.is_full] == [False, True, False]


@pytest.mark.live
def test_letters_arrive(bus: Bus) -> None:
    it = filled(quarantined(1))
    sender = LetterSender(bus, it)
    it.add([dead_letter(2)])
    sender.close(30.0)
    assert it.counts == {"letters_waiting": 0}
    received = take(bus.follow([Quarantined, DeadLetter], {}).poll, 2)
    assert {type(each.record): each.record for each in received} == {
        Quarantined: quarantined(1),
        DeadLetter: dead_letter(2),
    }


@pytest.mark.live
def test_what_a_broker_that_is_away_did_not_take_arrives_after_a_restart(bus: Bus) -> None:
    """B17: a learner that is killed after its checkpoint loses no letter."""
    away = Bus(BusConfig(bootstrap_servers="127.0.0.1:1", request_timeout_ms=200), client_id="learner")
    killed = filled(quarantined(1))
    LetterSender(away, killed).close(0.0)
    restarted = Letters()
    restarted.restore(killed.export())
    LetterSender(bus, restarted).close(30.0)
    (received,) = take(bus.follow([Quarantined], {}).poll, 1)
    assert received.record == quarantined(1) and restarted.export() == LettersState()


def test_a_broker_that_is_away_keeps_nobody_waiting() -> None:
    """B17: what waits for it is in the checkpoint instead."""
    bus = Bus(BusConfig(bootstrap_servers="127.0.0.1:1", request_timeout_ms=200), client_id="learner")
    it = Letters()
    sender = LetterSender(bus, it)
    start_s = time.monotonic()
    it.add(quarantined(number) for number in range(1_000))
    sender.close(0.0)
    assert time.monotonic() - start_s < 2.0 and len(it.export().quarantined) == 1_000
