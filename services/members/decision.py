"""Waits for what the learner makes of an encoder that it was offered."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import msgspec

from wire.records import EncoderOffer, OfferOutcome
from wire.store import Store

WAIT_S = 1.0


class NotAdoptedYet(RuntimeError):
    """The learner has not decided in time; the offer stays."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of an offer."""

    outcome: OfferOutcome

    @property
    def is_refused(self) -> bool:
        return self.outcome.state == "refused"

    def lines(self) -> list[str]:
        outcome = self.outcome
        beside = (
            f"Of {outcome.held} holdout samples it alone names {outcome.held_won} rightly, "
            f"and the encoder before alone {outcome.held_lost}"
        )
        if outcome.tried:
            beside += f"; of {outcome.tried} new labels {outcome.tried_won} and {outcome.tried_lost}"
        if self.is_refused:
            return [f"Refused, and nothing has changed: {', '.join(outcome.reasons)}.", f"{beside}."]
        return [
            f"Adopted, and published first as version {outcome.version}.",
            f"{beside}.",
            "`lifelong rollout status` shows which share of the traffic it answers.",
        ]

    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = msgspec.to_builtins(self.outcome)
        return fields


def decision_of(store: Store, offer: EncoderOffer, *, timeout_s: float, say: Callable[[str], None]) -> Decided:
    """Waits for the learner's decision. Raises NotAdoptedYet."""
    deadline_s = time.monotonic() + timeout_s
    with closing(store.watch()) as watch:
        while (outcome := store.offers.outcome(offer.id)) is None:
            report = store.reports.learner()
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                why = "`lifelong versions` will say what it decides" if report else "is `lifelong learn` running?"
                raise NotAdoptedYet(f"after {timeout_s:g} s the learner has not decided; the offer stays, and {why}")
            if report is not None:
                say(f"the learner: {report.round_phase or 'waits'} {report.round_progress:.0%}")
            watch.wait(min(left_s, WAIT_S))
    return Decided(outcome)
