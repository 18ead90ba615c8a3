"""The items that both ways in submit to the engine, and the outcomes that it returns."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from wire.records import Answer, Event


def always() -> bool:
    """Returns True: the default of `Item.is_wanted`, for events that nobody gives up on."""
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemFailure:
    """The model could not answer this event, and would fail again. The cause is in the log, not here."""

    event: Event
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Unanswered:
    """The machine or the weights failed, not this event: a later attempt may answer it."""

    item: "Item"


Outcome: TypeAlias = Answer | ItemFailure | Unanswered
Done: TypeAlias = Callable[[Outcome], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """An event on its way through the model.

    `done` is called once for each time that the item was queued, from the model's thread, so it must not block. An item
    that is not `is_wanted` any more is neither answered nor done.
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
        """Approximate memory of the text and the token ids."""
        return sys.getsizeof(self.event.text) + sys.getsizeof(self.token_ids)
