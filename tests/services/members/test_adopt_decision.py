"""Tests the text about the learner's decision on an offer."""

from services.members.adopt import Decided
from wire.records import CommandOutcome

REFUSED = CommandOutcome(
    seq=1, state="refused", time_ms=2, version=3, reasons=("collapsed",), numbers={"held": 9, "held_lost": 4}
)


def test_a_refusal_says_why_and_that_nothing_has_changed() -> None:
    decided = Decided(REFUSED)
    assert decided.is_refused and decided.fields()["reasons"] == ("collapsed",)
    assert decided.lines() == [
        "Refused, and nothing has changed: collapsed.",
        "Of 9 holdout samples the new encoder alone predicts 0 right, the old one alone 4.",
    ]


def test_an_adoption_names_the_version() -> None:
    numbers = {"tried": 70, "tried_won": 2}
    adopted = Decided(CommandOutcome(seq=1, state="published", time_ms=2, version=4, numbers=numbers))
    assert not adopted.is_refused
    assert "version 4" in adopted.lines()[0] and "of 70 new labels 2 and 0" in adopted.lines()[1]
