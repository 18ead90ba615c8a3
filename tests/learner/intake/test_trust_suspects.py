"""An alarm can withdraw the labels of the last events: they are bounded, and follow the names of the classes."""

import msgspec
import pytest

from learner.intake.trust import MAX_SUSPECTS, Suspects
from learner.samples import Sample
from tests.learner import streams


def sample(number: int) -> Sample:
    return msgspec.structs.replace(streams.sample(is_correct=False), event_id=f"event-{number}")


def test_only_what_is_asked_for_is_taken_and_only_once() -> None:
    samples = [sample(number) for number in range(4)]
    suspects = Suspects(samples)
    assert suspects.take({samples[2].event, samples[0].event, 17}) == [samples[0], samples[2]]
    assert suspects.take({samples[2].event}) == []
    assert suspects.export() == [samples[1], samples[3]]


def test_the_oldest_go_where_there_are_too_many() -> None:
    samples = [sample(number) for number in range(MAX_SUSPECTS + 2)]
    assert Suspects(samples).export() == samples[2:]


def test_the_oldest_go_where_their_texts_are_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learner.intake.trust.MAX_BYTES", 10)
    samples = [msgspec.structs.replace(sample(number), text="four") for number in range(5)]
    suspects = Suspects(samples)
    assert suspects.export() == samples[3:]
    suspects.take({samples[3].event})
    suspects.add(samples[0])
    assert suspects.export() == [samples[4], samples[0]]


def test_the_last_label_of_an_event_counts() -> None:
    first = sample(1)
    second = msgspec.structs.replace(first, label="another")
    assert Suspects([first, sample(2), second]).export() == [sample(2), second]


def test_nothing_of_an_erased_subject_is_left() -> None:
    """N1."""
    about = msgspec.structs.replace(sample(1), subject="anna")
    suspects = Suspects([about, sample(2)])
    assert suspects.erase("anna".__eq__) == 1
    assert suspects.export() == [sample(2)]


def test_suspects_follow_the_names_of_the_classes() -> None:
    def named(number: int, label: str) -> Sample:
        return msgspec.structs.replace(sample(number), label=label)

    suspects = Suspects([named(1, "old"), named(2, "gone"), named(3, "other")])
    suspects.rename({"old": "new", "gone": "", "other": "other"}.__getitem__)
    assert suspects.export() == [named(1, "new"), named(3, "other")]
