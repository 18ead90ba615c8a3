"""Letters to operators are sent at least once, and nothing waits for them."""

import time

import msgspec
import pytest

from learner.errors import LearnerError
from learner.intake.outbox import MAX_BYTES, LettersState, Outbox, OutboxSender
from tests.brokers import take
from tests.waiting import eventually
from wire.bus import Bus, Publisher
from wire.config import BusConfig
from wire.dead_letters import MAX_LETTER_BYTES
from wire.errors import BusUnavailable, SendFailed
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


def make_letters(*added: Quarantined | DeadLetter) -> Outbox:
    letters = Outbox()
    letters.add(added)
    return letters


def take_letter(letters: Outbox) -> tuple[int, Quarantined | DeadLetter]:
    numbered = letters.take(1.0)
    assert numbered is not None
    return numbered


def test_a_letter_waits_until_it_is_acknowledged() -> None:
    """B17: a letter that is not acknowledged is part of the checkpoint, in flight or not."""
    letters = make_letters(quarantined(1), dead_letter(2))
    number, first = take_letter(letters)
    assert first == quarantined(1) and letters.counts["letters_waiting"] == 2
    assert letters.export() == LettersState(quarantined=[quarantined(1)], dead_letters=[dead_letter(2)])
    letters.on_delivery(number, None)
    assert letters.export() == LettersState(dead_letters=[dead_letter(2)]) and not letters.wait_until_empty(0.0)
    letters.on_delivery(take_letter(letters)[0], None)
    assert letters.wait_until_empty(0.0) and letters.take(0.0) is None


def test_a_letter_that_was_not_taken_is_sent_again() -> None:
    letters = make_letters(quarantined(1))
    for error in (BusUnavailable("away"), SendFailed("not in time")):
        number, letter = take_letter(letters)
        assert letter == quarantined(1) and letters.take(0.0) is None
        letters.on_delivery(number, error)
    assert take_letter(letters)[1] == quarantined(1)


def test_restored_letters_are_sent_again_and_what_was_on_its_way_before_is_not_asked_for() -> None:
    """B17: letters are sent at least once."""
    letters = make_letters(quarantined(1), quarantined(2))
    before = letters.export()
    number, _ = take_letter(letters)
    letters.restore(before)
    letters.on_delivery(number, None)
    assert letters.export() == before
    assert [take_letter(letters)[1] for _ in range(2)] == [
        quarantined(1),
        quarantined(2),
    ]


def test_what_can_never_be_sent_becomes_a_short_letter_and_then_nothing() -> None:
    """B17: one record holds up nothing."""
    letters = make_letters(dead_letter(1, num_bytes=MAX_LETTER_BYTES), quarantined(2))
    letters.on_delivery(take_letter(letters)[0], GONE)
    letters.on_delivery(take_letter(letters)[0], GONE)
    cut = take_letter(letters)
    quarantine = take_letter(letters)
    assert isinstance(cut[1], DeadLetter) and cut[1].offset == 1 and len(cut[1].payload) < 100_000
    assert isinstance(quarantine[1], DeadLetter) and quarantine[1].reason == "unsendable"
    assert b"a lie" in quarantine[1].payload and letters.counts["letters_shortened"] == 2
    letters.on_delivery(cut[0], GONE)
    assert letters.counts["letters_lost"] == 1
    assert letters.counts["letters_waiting"] == 1


def test_the_letters_are_bounded_in_bytes() -> None:
    """B17, B22: full letters have room again once one is acknowledged."""
    letters = make_letters(dead_letter(1, num_bytes=MAX_BYTES - 5_000))
    is_full_before = letters.is_full
    letters.add([dead_letter(2, num_bytes=5_000)])
    is_full = letters.is_full
    letters.on_delivery(take_letter(letters)[0], None)
    is_full_afterwards = letters.is_full
    assert (is_full_before, is_full, is_full_afterwards) == (False, True, False)


@pytest.mark.live
def test_letters_arrive(bus: Bus) -> None:
    letters = make_letters(quarantined(1))
    sender = OutboxSender(bus, letters)
    letters.add([dead_letter(2)])
    sender.close(30.0)
    assert letters.counts == {"letters_waiting": 0}
    received = take(bus.follow([Quarantined, DeadLetter], {}).poll, 2)
    assert {type(each.record): each.record for each in received} == {
        Quarantined: quarantined(1),
        DeadLetter: dead_letter(2),
    }


@pytest.mark.live
def test_what_a_broker_that_is_away_did_not_take_arrives_after_a_restart(bus: Bus) -> None:
    """B17: a learner that is killed after its checkpoint loses no letter."""
    away = Bus(BusConfig(bootstrap_servers="127.0.0.1:1", client={"request_timeout_ms": 200}), client_id="learner")
    killed = make_letters(quarantined(1))
    OutboxSender(away, killed).close(0.0)
    restarted = Outbox()
    restarted.restore(killed.export())
    OutboxSender(bus, restarted).close(30.0)
    (received,) = take(bus.follow([Quarantined], {}).poll, 1)
    assert received.record == quarantined(1) and restarted.export() == LettersState()


def test_a_broker_that_is_away_keeps_nobody_waiting() -> None:
    """B17: the letters that wait for it are in the checkpoint instead."""
    bus = Bus(BusConfig(bootstrap_servers="127.0.0.1:1", client={"request_timeout_ms": 200}), client_id="learner")
    letters = Outbox()
    sender = OutboxSender(bus, letters)
    start_s = time.monotonic()
    letters.add(quarantined(number) for number in range(1_000))
    sender.close(0.0)
    assert time.monotonic() - start_s < 30.0 and len(letters.export().quarantined) == 1_000


class Faulty(Bus):
    """Fails as no bus should."""

    def publisher(self) -> Publisher:
        raise ZeroDivisionError


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_sender_that_has_ended_by_itself_is_an_error() -> None:
    """B17: letters that nobody sends would fill their place, and the learner would read no more, without an alarm."""
    letters = Outbox()
    sender = OutboxSender(Faulty(BusConfig(), client_id="learner"), letters)
    sender.check()
    letters.add([quarantined(1)])

    def has_ended() -> bool:
        try:
            sender.check()
        except LearnerError:
            return True
        return False

    eventually(has_ended)


def test_letters_count_what_their_names_take() -> None:
    """B22: a set of labels has up to 64 names of 1 KiB, and waits in every checkpoint."""
    letters = Outbox()
    names = tuple(f"{number}{'x' * 1_000}" for number in range(64))
    while not letters.is_full:
        letters.add([msgspec.structs.replace(quarantined(1), labels=names)])
    assert letters.counts["letters_waiting"] < MAX_BYTES / 64_000 + 1


def test_a_letter_about_an_erased_subject_says_nothing_of_its_event() -> None:
    """N1: letters that wait are part of the checkpoint."""
    about = msgspec.structs.replace(
        quarantined(1), key="anna", text="my text", features={"age": 7.0}, parts=({"type": "scan"},)
    )
    about = msgspec.structs.replace(about, answered="yes")
    letters = make_letters(about, quarantined(2), dead_letter(3))
    letters.erase(lambda subject: subject == "anna")
    bare = msgspec.structs.replace(about, text="", features={}, parts=(), answered=None)
    assert letters.export() == LettersState(quarantined=[bare, quarantined(2)], dead_letters=[dead_letter(3)])
    changed = {name for name in Quarantined.__struct_fields__ if getattr(about, name) != getattr(bare, name)}
    names = {"reason", "event_id", "label", "labels", "value", "target", "key", "source", "event_source", "time_ms"}
    assert set(Quarantined.__struct_fields__) - changed == names | {"receipt", "detail", "task"}
