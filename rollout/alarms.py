"""What goes wrong now, by the step that fails: said once in the log, counted, and shown until the step succeeds.

    with alarms.attempt("collect"): ...  -> fails -> counts, now() -> tried again by the loop -> succeeds -> gone

No failure of a door ends a loop of the rollout: traffic goes on under the plan in force, and what failed is tried
again.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from rollout.plans import NotPossible
from wire.errors import WireError

log = structlog.get_logger("rollout")


class Alarms:
    """The alarms of one loop. One thread raises them; any may read `now` and `counts`."""

    def __init__(self) -> None:
        self._raised: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    def now(self) -> tuple[str, ...]:
        """What is raised, in words."""
        return tuple(f"{step}: {reason}" for step, reason in self._raised.copy().items())

    def raise_(self, step: str, reason: str) -> None:
        """`step` has failed; a reason that differs from the last one in its first word is said in the log."""
        self.counts[f"failed_{step}"] += 1
        if self._raised.get(step, "").partition(":")[0] != reason.partition(":")[0]:
            log.warning("alarm", step=step, reason=reason)
        self._raised[step] = reason

    def clear(self, step: str) -> None:
        """`step` has succeeded."""
        if self._raised.pop(step, None) is not None:
            log.info("alarm_over", step=step)

    @contextmanager
    def attempt(self, step: str) -> Iterator[None]:
        """What a door or the plan refuses becomes an alarm; the caller's loop tries again."""
        try:
            yield
        except (WireError, NotPossible) as error:
            self.raise_(step, f"{type(error).__name__}: {error}")
        else:
            self.clear(step)
