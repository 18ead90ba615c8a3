"""A stream in which two classes swap their names, with times and sources of labels."""

import msgspec

from tests.learner.streams import answer, feedback, label_of
from wire.receipts import Receipts
from wire.records import Answer, Feedback

CHANGE = 200
"""The event from which on the first two classes have each other's name."""

END = 400
SWAPPED = {"refund": "delivery", "delivery": "refund"}
RECEIPTS = Receipts(b"a key for tests")


def name_of(number: int) -> str:
    label = label_of(number)
    return SWAPPED.get(label, label) if number >= CHANGE else label


def records(first: int, last: int, *, num_sources: int = 3, is_approved: bool = False) -> list[Answer | Feedback]:
    """Events whose answers name what the labels before the change say."""
    found = list[Answer | Feedback]()
    for number in range(first, last):
        label = msgspec.structs.replace(
            feedback(number, label=name_of(number)), source=f"desk {number // 5 % num_sources}", event_source=""
        )
        found.append(answer(number, label=label_of(number), time_ms=1_000 + number))
        found.append(RECEIPTS.approved(label) if is_approved else label)
    return found
