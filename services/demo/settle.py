"""Between a stage and its test: until every label that was said has its effect on what is served.

    last label in its topic --> newest version has learned it --> stable version has --> every replica follows

No more labels come now, so nothing can judge the version that learned the last of them: it would stay a candidate for
good. The demo then promotes it, as an operator would, and says so.

Labels that are held back to measure on, or repeated, make no new version: where no other follows for a while, the
newest has learned all that there is.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.demo.hands import Hands, Limits
from services.demo.ledger import Ledger
from services.demo.sight import Sight, Watcher


@dataclass(slots=True)
class _Newest:
    """The newest version, and since when it has been the newest, or was promoted."""

    version: int
    since_s: float


@dataclass(frozen=True, slots=True)
class Settler:
    """Verbs: settle. It calls `meanwhile` every `every_s` seconds: a real stream does not stop to be learned from."""

    ledger: Ledger
    watcher: Watcher
    hands: Hands
    limits: Limits
    meanwhile: Callable[[], None]
    every_s: float

    def settle(self, stage: str) -> None:
        """Returns when all is live, or when patience ends; whatever was not learned is said."""
        if not self._await_labels():
            self.hands.say(f"{stage}: not all labels arrived within {self.limits.label_s:g} s")
        ends = self.ledger.label_ends()
        in_time = self._await_live(ends)
        if lacking := self.watcher.sight().lacking(ends):
            late = f"not learned within {self.limits.learn_s:g} s"
            why = "held back to measure on, or repeated" if in_time else late
            self.hands.say(f"{stage}: the last {lacking} labels changed nothing ({why})")

    def _await_labels(self) -> bool:
        """Whether every label lies in its topic in time.

        consumes: the ledger; produces: what `meanwhile` does; waits for: labels; unblocked by: them, or the limit
        """
        deadline_s = time.monotonic() + self.limits.label_s
        while not self.ledger.wait(lambda counts: counts.labelled >= counts.due, self.every_s):
            self._pass_time()
            if time.monotonic() >= deadline_s:
                return False
        return True

    def _await_live(self, ends: Mapping[str, int]) -> bool:
        """Whether the labels below `ends` are live in time.

        consumes: sights; produces: promotions; waits for: the stable version; unblocked by: it, or the limit
        """
        deadline_s = time.monotonic() + self.limits.learn_s
        newest = _Newest(0, time.monotonic())
        while not self.watcher.wait(lambda sight: sight.is_live(ends), self.every_s):
            self._pass_time()
            sight, now_s = self.watcher.sight(), time.monotonic()
            if sight.newest != newest.version:
                newest = _Newest(sight.newest, now_s)
            if self._is_over(sight, newest, ends, now_s):
                return True
            if now_s >= deadline_s:
                return False
        return True

    def _is_over(self, sight: Sight, newest: _Newest, ends: Mapping[str, int], now_s: float) -> bool:
        """Whether the newest version has learned all there is and is served; promotes it where nobody else will."""
        age_s = now_s - newest.since_s
        if not sight.covers(newest.version, ends) and age_s < self.limits.quiet_s:
            return False
        if sight.stable == newest.version:
            return sight.is_taken
        if age_s >= self.limits.judge_s:
            self.hands.say(f"no label is left to judge version {newest.version} by: promoted by the demo")
            self.hands.promote(newest.version)
            newest.since_s = now_s
        return False

    def _pass_time(self) -> None:
        self.hands.check()
        self.meanwhile()
