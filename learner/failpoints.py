"""Named places where a test may kill the process, as `kill -9` would: between any two steps that must be atomic.

`LIFELONG_FAILPOINT=after-checkpoint` kills at the first pass, `after-checkpoint:3` at the third, and
`after-checkpoint:1:STOP` makes the process sleep there, as a machine that pauses would, until SIGCONT. Without the
variable a failpoint costs one dictionary look-up. SIGKILL and not an exception: no `finally`, no flush, no goodbye.
"""

import os
import signal
from collections import Counter
from typing import Final

VARIABLE: Final = "LIFELONG_FAILPOINT"

NAMES: Final = (
    "after-poll",
    "after-learn",
    "after-slow-step",
    "after-adopt",
    "after-evaluate",
    "after-requantize",
    "after-blob",
    "in-checkpoint",
    "before-rename",
    "after-checkpoint",
    "after-publish",
    "after-mark",
)
"""Every failpoint, in the order in which a learner that publishes passes them."""

_passed: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Kill or stop this process here if the environment says so.

    >>> failpoint("after-poll")
    """
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    wanted_name, _, rest = wanted.partition(":")
    count, _, sent = rest.partition(":")
    if wanted_name not in NAMES:
        raise ValueError(f"{VARIABLE}={wanted!r}: no such failpoint; there are {', '.join(NAMES)}")
    if name == wanted_name:
        _passed[name] += 1
        if _passed[name] == int(count or 1):
            os.kill(os.getpid(), signal.Signals[f"SIG{sent or 'KILL'}"])
