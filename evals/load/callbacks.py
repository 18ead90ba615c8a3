"""Defines what the player gets besides the stream: the caller's functions, and its timeouts."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """How long the player waits, in seconds, before it says so and goes on."""

    answer_s: float = 60.0
    """Limits the wait for the next answer."""
    label_s: float = 60.0
    """Limits the wait until the last label of a stage is in its topic."""
    learn_s: float = 120.0
    """Limits the wait until every replica serves, as stable, a version that has learnt all labels so far."""
    rest_s: float = 480.0
    """Limits the wait for the learner's rehearsal after the last stage."""
    judge_s: float = 1.0
    """The time that the controller has to make the current version the stable one; after it the player goes on."""
    quiet_s: float = 5.0
    """A learner that has published nothing for so long has learnt all that there is."""
    poll_interval_s: float = 0.5
    """The longest time between two checks that everything still runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Callbacks:
    """What the caller does for the player."""

    began_ms: int
    """When the process of the run was started."""
    now_ms: Callable[[], int]
    say: Callable[[str], None]
    """Takes a line for a human."""
    check: Callable[[], None]
    """Raises when a part of the run has ended."""
