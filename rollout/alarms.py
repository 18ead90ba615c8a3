"""The alarms of the rollout: a step that fails raises its alarm, which is logged once and stays until the step
succeeds.

    with alarms.attempt("collect"): ...  -> fails -> counts, active() -> the loop retries -> succeeds -> cleared

No failure of Redis or Kafka ends a loop of the rollout. Traffic goes on under the plan in force, and the loop retries
the failed step.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from rollout.plans import NotPossible
from wire.errors import WireError

log = structlog.get_logger("rollout")


class Alarms:
    """The alarms of one loop. One thread raises them; any thread may read `active` and `counts`."""

    def __init__(self) -> None:
        self._raised: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    def active(self) -> tuple[str, ...]:
        """Returns the alarms that are raised now, in words."""
        return tuple(f"{step}: {reason}" for step, reason in self._raised.copy().items())

    def raise_(self, step: str, reason: str) -> None:
        """Raises the alarm of `step`.

        It is logged unless the last reason of this step has the same text before its first colon.
        """
        self.counts[f"failed_{step}"] += 1
        if self._raised.get(step, "").partition(":")[0] != reason.partition(":")[0]:
            log.warning("alarm", step=step, reason=reason)
        self._raised[step] = reason

    def clear(self, step: str) -> None:
        """Clears the alarm of `step`, which succeeded."""
        if self._raised.pop(step, None) is not None:
            log.info("alarm_over", step=step)

    @contextmanager
    def attempt(self, step: str) -> Iterator[None]:
        """Raises the alarm of `step` on WireError and NotPossible, without raising them; the caller's loop retries."""
        try:
            yield
        except (WireError, NotPossible) as error:
            self.raise_(step, f"{type(error).__name__}: {error}")
        else:
            self.clear(step)
