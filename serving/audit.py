"""Lets a fixed share of the answers ask for a label: who labels only what looks wrong says little of what is right.

    Predict --audited--> Predict, whose answers to the events of the audit have `audit`

Which events these are depends on their ids alone, under a secret (`wire.draws`), so neither version nor arm
matters, and no sender can choose.

Rejected: events drawn by a random number (the rollout, which sees the label alone, could not tell which they are).
"""

from collections.abc import Callable
from typing import ParamSpec

import msgspec

from wire.draws import AUDIT, is_drawn
from wire.receipts import Receipts
from wire.records import Answer

P = ParamSpec("P")


def audited(predict: Callable[P, list[Answer]], share: float, receipts: Receipts) -> Callable[P, list[Answer]]:
    """Returns `predict`, with answers that ask for the labels of `share` of the events."""
    if not share:
        return predict

    def predict_audited(*args: P.args, **kwargs: P.kwargs) -> list[Answer]:
        return [
            msgspec.structs.replace(answer, audit=True)
            if is_drawn(receipts.draws, AUDIT, answer.event_id, share)
            else answer
            for answer in predict(*args, **kwargs)
        ]

    return predict_audited
