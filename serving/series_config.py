"""The settings of a series: what an event takes over from the events of its key before it.

Rejected: a list of lags for each feature (nobody knows beforehand which column of which lag a label hangs on, and the
head weighs them).
"""

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from annotated_types import Ge, Le, MaxLen
from pydantic import BeforeValidator

from wire.sections import SECTION, decoded, require

MAX_DEPTH = 1_000
"""Most events back that a lag or a mean may reach."""


Depths: TypeAlias = Annotated[
    tuple[Annotated[int, Ge(1), Le(MAX_DEPTH)], ...], MaxLen(MAX_DEPTH), BeforeValidator(decoded)
]


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesConfig:
    """What an event takes over from those of its key before it (docs/features.md). Without any: nothing."""

    __pydantic_config__ = SECTION

    lags: Depths = ()
    """So many events before an event of the same key, whose features it gets: 1 is the event before it."""
    means: Depths = ()
    """So many events before an event of the same key, of whose numbers it gets the means."""
    labels: Annotated[int, Ge(0), Le(MAX_DEPTH)] = 0
    """Labels of the same key that an event gets as categories: the newest ones that have come by then."""
    max_values: Annotated[int, Ge(1_000), Le(1_000_000_000)] = 1_000_000
    """Features of past events that a replica holds, of all keys, some 100 bytes each. Beyond it the key whose last
    event is the oldest is forgotten."""

    def __post_init__(self) -> None:
        require(
            (len(set(self.lags)) == len(self.lags), "serving.series.lags must not name a lag twice"),
            (len(set(self.means)) == len(self.means), "serving.series.means must not name a number of events twice"),
        )

    @property
    def is_used(self) -> bool:
        """Whether events take over anything."""
        return bool(self.depth or self.labels)

    @property
    def depth(self) -> int:
        """How many events back the features of an event matter to a later one."""
        return max((*self.lags, *self.means, 0))
