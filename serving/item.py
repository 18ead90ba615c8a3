"""What the model's thread is asked, and what it says: the nouns between both ways in and the engine."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from wire.records import Answer, Event


def always() -> bool:
    """Of events that nobody gives up on."""
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemFailure:
    """The model could not answer this event, and would not next time. The cause is in the log, not here."""

    event: Event
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Unanswered:
    """The machine or the weights failed, and not this event, which may be answered next time."""

    item: "Item"


Outcome: TypeAlias = Answer | ItemFailure | Unanswered
Done: TypeAlias = Callable[[Outcome], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """An event on its way through the model. `done` is called once for each time that it was put into the queue, from
    the model's thread: it must not wait. Where nobody waits any more (not `is_wanted`) it is neither answered nor done.
    """

    event: Event
    token_ids: list[int]
    done: Done
    is_wanted: Callable[[], bool] = always

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_bytes(self) -> int:
        """Memory of its text and tokens, about."""
        return sys.getsizeof(self.event.text) + sys.getsizeof(self.token_ids)
