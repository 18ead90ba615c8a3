"""One thing of a state, and what the installed release does with it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Readability(StrEnum):
    """What the installed release does with a thing of a state."""

    READ = "read as it is"
    REWRITTEN = "rewritten"
    UNREADABLE = "cannot be read"


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatFinding:
    """A thing of a state by its name, its format, and the verdict with its reason or its fix.

    `rewrite` is there where the verdict is REWRITTEN. `is_needed` says that the service cannot go on without it.
    """

    name: str
    format: str
    verdict: Readability
    why: str = ""
    is_needed: bool = False
    rewrite: Callable[[], None] | None = None

    @property
    def is_fatal(self) -> bool:
        """Whether the service cannot go on with the installed release."""
        return self.is_needed and self.verdict is Readability.UNREADABLE


def read(name: str, format_: str, why: str = "") -> FormatFinding:
    """Returns a thing that is read as it is."""
    return FormatFinding(name=name, format=format_, verdict=Readability.READ, why=why)
