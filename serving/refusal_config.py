"""The settings of refusals: when an answer names no class but a fallback label.

Rejected: one number for all ways to say it (a probability, a share of the texts and a risk are no rates of each other).
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le, Lt

from wire.sections import SECTION, require
from wire.targets import Kind


@dataclass(frozen=True, kw_only=True, slots=True)
class RefusalConfig:
    """When an answer names no class but the fallback label (docs/labels.md). All 0: never."""

    __pydantic_config__ = SECTION

    label: str = "none of these"
    """Fallback label: that of an answer that is refused."""
    min_score: Annotated[float, Ge(0), Le(1)] = 0.0
    """Refuse answers whose `score`, the probability of the best class, is below."""
    known_share: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Refuse as many of the texts of known classes, the least certain ones. With 0.05, mostly texts of no class."""
    max_risk: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Refuse so many that of the answers that are left at most this share is wrong, with 95 % confidence."""

    def __post_init__(self) -> None:
        require((bool(self.label.strip()), "serving.refusal.label must have a name"))

    @property
    def is_on(self) -> bool:
        """Whether anything may be refused."""
        return bool(self.min_score or self.known_share or self.max_risk)

    def problems(self, kind: Kind) -> list[str]:
        """Returns what is wrong with it for labels of this kind."""
        if kind == "class" or not self.is_on:
            return []
        return [f"serving.refusal refuses to name one class, and labels.kind is {kind}: leave it unset"]
