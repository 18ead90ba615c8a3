"""Failpoints: named points in the code at which a test can kill the process, as `kill -9` would.

The environment variable LIFELONG_FAILPOINT chooses the point and the pass:

    after-checkpoint           kills the process when it passes this point for the first time
    after-checkpoint:3         kills it at the third pass
    after-checkpoint:1:STOP    stops it at the first pass until SIGCONT, like a machine that pauses

Without the variable, a failpoint costs one dictionary look-up. The process gets SIGKILL and no exception is raised, so
no `finally` block runs and nothing is flushed.
"""

import os
import signal
from collections import Counter
from typing import Final

VARIABLE: Final = "LIFELONG_FAILPOINT"

NAMES: Final = (
    "after-command",
    "after-poll",
    "after-learn",
    "after-slow-step",
    "after-take",
    "after-adopt",
    "after-evaluate",
    "after-requantize",
    "after-blob",
    "in-checkpoint",
    "before-rename",
    "after-checkpoint",
    "after-journal",
    "after-publish",
    "after-mark",
)
"""All failpoints, in the order in which a learner passes them when it publishes."""

_passed: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Kills or stops this process here if LIFELONG_FAILPOINT names this point. Raises ValueError for an unknown name.

    >>> failpoint("after-poll")
    """
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    wanted_name, _, rest = wanted.partition(":")
    pass_number, _, signal_name = rest.partition(":")
    if wanted_name not in NAMES:
        raise ValueError(f"{VARIABLE}={wanted!r}: no such failpoint; there are {', '.join(NAMES)}")
    if name == wanted_name:
        _passed[name] += 1
        if _passed[name] == int(pass_number or 1):
            os.kill(os.getpid(), signal.Signals[f"SIG{signal_name or 'KILL'}"])
