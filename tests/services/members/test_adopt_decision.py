"""What the learner makes of an offer is waited for, and said."""

import pytest

from services.members.adopt import Decided, NotAdoptedYet, decision_of
from wire.records import EncoderOffer, OfferOutcome
from wire.store import Store

OFFER = EncoderOffer(id="a", name="tied", time_ms=1)
REFUSED = OfferOutcome(
    offer="a", name="tied", state="refused", time_ms=2, version=3, reasons=("collapsed",), held=9, held_lost=4
)


def silent(_: str) -> None:
    """Shows nothing."""


def test_a_refusal_says_why_and_that_nothing_has_changed() -> None:
    decided = Decided(REFUSED)
    assert decided.is_refused and decided.fields()["reasons"] == ("collapsed",)
    assert decided.lines() == [
        "Refused, and nothing has changed: collapsed.",
        "Of 9 holdout samples it alone names 0 rightly, and the encoder before alone 4.",
    ]


def test_an_adoption_names_the_version() -> None:
    adopted = OfferOutcome(offer="a", name="tied", state="adopted", time_ms=2, version=4, tried=70, tried_won=2)
    assert not Decided(adopted).is_refused
    assert "version 4" in Decided(adopted).lines()[0] and "of 70 new labels 2 and 0" in Decided(adopted).lines()[1]


@pytest.mark.live
def test_the_decision_is_waited_for(store: Store) -> None:
    store.offers.make(OFFER)
    with pytest.raises(NotAdoptedYet, match=r"has not decided; the offer stays, and is `lifelong learn` running\?"):
        decision_of(store, OFFER, timeout_s=0.01, say=silent)
    store.offers.note(REFUSED)
    assert decision_of(store, OFFER, timeout_s=1.0, say=silent) == Decided(REFUSED)
