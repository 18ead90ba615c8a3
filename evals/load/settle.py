"""Waits, between a stage and its test, until every label that was sent has its effect on what is served.

    last label in its topic --> current version has learnt it --> stable version has --> every replica follows

No more labels come now, so nothing may be left to judge the version that learnt the last of them. It keeps the share
of the traffic that it has then, and that is said.

Rejected: promoting that version as an operator would. What is tested would not be what the rollout decides.

Labels of the holdout and repeated labels make no new version. So where no version follows for a while, the current one
has learnt all that there is. After the last stage the learner has time to rehearse; that is waited for too.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from evals.load.callbacks import Callbacks, Timeouts
from evals.load.ledger import Ledger
from evals.load.watcher import ServiceSnapshot, Watcher


@dataclass(frozen=True, slots=True)
class _Current:
    """The current version, and since when it has been current."""

    version: int
    since_s: float


@dataclass(frozen=True, slots=True)
class Settler:
    """Waits for the service, and calls `meanwhile` every `every_s` seconds: a real stream does not pause."""

    ledger: Ledger
    watcher: Watcher
    callbacks: Callbacks
    timeouts: Timeouts
    meanwhile: Callable[[], None]
    every_s: float

    def settle(self, stage: str) -> None:
        """Returns when all labels are live, or when a timeout ends; says what was not learnt."""
        if not self._await_labels():
            self.callbacks.say(f"{stage}: not all labels arrived within {self.timeouts.label_s:g} s")
        ends = self.ledger.label_ends()
        in_time = self._await_live(lambda snapshot, version: snapshot.covers(version, ends))
        if num_missing := self.watcher.snapshot().num_missing(ends):
            late = f"not learnt within {self.timeouts.learn_s:g} s"
            why = "in the holdout, or repeated" if in_time else late
            self.callbacks.say(f"{stage}: the last {num_missing} labels changed nothing ({why})")

    def rest(self) -> None:
        """Returns when the learner has rehearsed after the last label, and the version that came of it is live.

        consumes: snapshots; produces: what `meanwhile` does
        waits for: a learner at rest; unblocked by: it, or the timeout
        """
        deadline_s = time.monotonic() + self.timeouts.rest_s
        while not self.watcher.wait(lambda snapshot: snapshot.is_rested, self.every_s):
            self._pass_time()
            if time.monotonic() >= deadline_s:
                self.callbacks.say(f"the learner is not done within {self.timeouts.rest_s:g} s")
                return
        self._await_live(lambda snapshot, version: False)

    def _await_labels(self) -> bool:
        """Waits for the labels; returns whether every one of them is in its topic in time.

        consumes: the ledger; produces: what `meanwhile` does; waits for: labels; unblocked by: them, or the timeout
        """
        deadline_s = time.monotonic() + self.timeouts.label_s
        while not self.ledger.wait(lambda counts: counts.labelled >= counts.due, self.every_s):
            self._pass_time()
            if time.monotonic() >= deadline_s:
                return False
        return True

    def _await_live(self, covers: Callable[[ServiceSnapshot, int], bool]) -> bool:
        """Waits for the weights; returns whether a version that `covers` all there is to learn is live in time.

        consumes: snapshots; produces: what `meanwhile` does
        waits for: the stable version; unblocked by: it, or the timeout
        """
        deadline_s = time.monotonic() + self.timeouts.learn_s
        current = _Current(0, time.monotonic())

        def is_live(snapshot: ServiceSnapshot) -> bool:
            return snapshot.is_rolled_out and covers(snapshot, snapshot.stable)

        while not self.watcher.wait(is_live, self.every_s):
            self._pass_time()
            snapshot = self.watcher.snapshot()
            now_s = time.monotonic()
            if snapshot.current != current.version:
                current = _Current(snapshot.current, now_s)
            if self._is_over(snapshot, current, covers(snapshot, snapshot.current), now_s):
                return True
            if now_s >= deadline_s:
                return False
        return True

    def _is_over(self, snapshot: ServiceSnapshot, current: _Current, is_all: bool, now_s: float) -> bool:
        """Whether the current version has learnt all there is, and is served as far as the rollout lets it."""
        age_s = now_s - current.since_s
        if not is_all and age_s < self.timeouts.quiet_s:
            return False
        if snapshot.stable == current.version:
            return snapshot.is_rolled_out
        if age_s < self.timeouts.judge_s:
            return False
        self.callbacks.say(f"no label is left to judge version {current.version} by: it keeps the share it has")
        return True

    def _pass_time(self) -> None:
        self.callbacks.check()
        self.meanwhile()
