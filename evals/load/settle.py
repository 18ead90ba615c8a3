"""Between a stage and its test: until every label that was said has its effect on what is served.

    last label in its topic --> newest version has learned it --> stable version has --> every replica follows

No more labels come now, so nothing can judge the version that learned the last of them: it would stay a candidate for
good. The demo then promotes it, as an operator would, and says so.

Labels that are held back to measure on, or repeated, make no new version: where no other follows for a while, the
newest has learned all that there is. After the last stage the learner has time to rehearse; that is waited for too.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from evals.load.callbacks import Callbacks, Patience
from evals.load.ledger import Ledger
from evals.load.watcher import ServiceSnapshot, Watcher


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
    hands: Callbacks
    limits: Patience
    meanwhile: Callable[[], None]
    every_s: float

    def settle(self, stage: str) -> None:
        """Returns when all is live, or when patience ends; whatever was not learned is said."""
        if not self._await_labels():
            self.hands.say(f"{stage}: not all labels arrived within {self.limits.label_s:g} s")
        ends = self.ledger.label_ends()
        in_time = self._await_live(lambda sight, version: sight.covers(version, ends))
        if lacking := self.watcher.sight().lacking(ends):
            late = f"not learned within {self.limits.learn_s:g} s"
            why = "held back to measure on, or repeated" if in_time else late
            self.hands.say(f"{stage}: the last {lacking} labels changed nothing ({why})")

    def rest(self) -> None:
        """Returns when the learner has used the silence after the last label, and what came of it is live.

        consumes: sights; produces: what `meanwhile` does; waits for: a learner at rest; unblocked by: it, or the limit
        """
        deadline_s = time.monotonic() + self.limits.rest_s
        while not self.watcher.wait(lambda sight: sight.is_rested, self.every_s):
            self._pass_time()
            if time.monotonic() >= deadline_s:
                self.hands.say(f"the learner is not done within {self.limits.rest_s:g} s")
                return
        self._await_live(lambda sight, version: False)

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

    def _await_live(self, covers: Callable[[ServiceSnapshot, int], bool]) -> bool:
        """Whether a version that `covers` all there is to learn is live in time.

        consumes: sights; produces: promotions; waits for: the stable version; unblocked by: it, or the limit
        """
        deadline_s = time.monotonic() + self.limits.learn_s
        newest = _Newest(0, time.monotonic())
        while not self.watcher.wait(lambda sight: sight.is_taken and covers(sight, sight.stable), self.every_s):
            self._pass_time()
            sight = self.watcher.sight()
            now_s = time.monotonic()
            if sight.newest != newest.version:
                newest = _Newest(sight.newest, now_s)
            if self._is_over(sight, newest, covers(sight, sight.newest), now_s):
                return True
            if now_s >= deadline_s:
                return False
        return True

    def _is_over(self, sight: ServiceSnapshot, newest: _Newest, is_all: bool, now_s: float) -> bool:
        """Whether the newest version has learned all there is and is served; promotes it where nobody else will."""
        age_s = now_s - newest.since_s
        if not is_all and age_s < self.limits.quiet_s:
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
