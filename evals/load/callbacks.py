"""What the player is given besides the stream: who does things for it, and how patient it is."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long the player waits before it says so and goes on, in seconds."""

    answer_s: float = 60.0
    """For the next answer."""
    label_s: float = 60.0
    """For the last label of a stage to lie in its topic."""
    learn_s: float = 120.0
    """For a version that has learned all labels so far to be the stable one of every replica."""
    rest_s: float = 480.0
    """For the learner to use the silence after the last stage."""
    judge_s: float = 1.0
    """For the controller to judge by the last labels, before the newest version is promoted without them."""
    quiet_s: float = 5.0
    """For a next version. A learner that publishes nothing for so long has nothing new."""
    look_s: float = 0.5
    """Between two looks at whether everything still runs, at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Callbacks:
    """What others do for the player. `check` raises when a part of the run has ended; `began_ms` is its very start."""

    began_ms: int
    now_ms: Callable[[], int]
    say: Callable[[str], None]
    check: Callable[[], None]
    promote: Callable[[int], object]
