"""Plays the stream, one stage after the other.

    for each stage:  play (events at the rate) -> settle (labels learned, and live) -> examine (all test items so far)

Training events are an open loop: an event's time is when it should be sent, so a service that falls behind shows it in
its latency. Test items are a closed loop: as fast as they are answered, a bounded number at a time.

When a stage is over no more labels come, so nothing can judge the version that learned the last of them: it would stay
a candidate for good. The demo then promotes it, as an operator would, and says so.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from services.demo.ledger import TRAIN, Ledger
from services.demo.outbox import Outbox
from services.demo.sight import Watcher
from services.demo.stream import Item, Stage, Stream
from wire.records import Event

SOURCE = "demo"
MAX_OUTSTANDING = 256
"""Test items that are unanswered at a time: some batches, so that the service is never without work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How long the player waits before it says so and goes on, in seconds."""

    answer_s: float = 60.0
    """For the next answer."""
    label_s: float = 60.0
    """For the last label of a stage to lie in its topic."""
    learn_s: float = 120.0
    """For a version that has learned all labels so far to be the stable one of every replica."""
    judge_s: float = 3.0
    """For the controller to judge by the last labels, before the newest version is promoted without them."""
    quiet_s: float = 6.0
    """For a next version. A learner that publishes nothing for so long has nothing new."""
    look_s: float = 0.5
    """Between two looks at whether everything still runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hands:
    """What others do for the player. `check` raises when a part of the run has ended; `began_ms` is its very start."""

    began_ms: int
    now_ms: Callable[[], int]
    say: Callable[[str], None]
    check: Callable[[], None]
    promote: Callable[[int], object]


class Player:
    """Sends every event of a run. Verbs: run, or its parts play, send and await_answers."""

    def __init__(
        self, ledger: Ledger, watcher: Watcher, outbox: Outbox, hands: Hands, *, limits: Limits, seed: int
    ) -> None:
        self._ledger = ledger
        self._watcher = watcher
        self._outbox = outbox
        self._hands = hands
        self._limits = limits
        self._seed = seed
        self._given_up = 0
        self._has_answer = False

    def run(self, stream: Stream, *, rate: float) -> None:
        """Plays all stages, at `rate` events a second."""
        for number, stage in enumerate(stream.stages):
            self.play(number, stage, rate)
            self._settle(stage)
            self._examine(number, stream.stages[: number + 1])

    def play(self, number: int, stage: Stage, rate: float) -> None:
        """Sends the training items, each at its time."""
        self._hands.say(f"{stage.name}: {len(stage.train)} events at {rate:g} a second")
        start_s, start_ms = time.monotonic(), self._hands.now_ms()
        for place, item in enumerate(stage.train):
            self._sleep_until(start_s + place / rate)
            self.send(item, stage=number, time_ms=start_ms + round(1000 * place / rate))
            self._say_first()

    def _say_first(self) -> None:
        if not self._has_answer and (first_ms := self._ledger.progress().first_ms):
            self._has_answer = True
            self._hands.say(
                f"first answer {(min(first_ms.values()) - self._hands.began_ms) / 1000:.1f} s after the start"
            )

    def _sleep_until(self, moment_s: float) -> None:
        """A clock is all there is to wait for here."""
        while (left_s := moment_s - time.monotonic()) > 0:
            time.sleep(min(left_s, self._limits.look_s))
            if left_s > self._limits.look_s:
                self._hands.check()

    def send(self, item: Item, *, stage: int, time_ms: int, round: int = TRAIN) -> None:
        """Sends one event, now, whose time is `time_ms`."""
        event_id = self._ledger.sent(item.label, stage=stage, time_ms=time_ms, round=round)
        self._outbox.send(Event(id=event_id, text=item.text, source=SOURCE, time_ms=time_ms))

    def _settle(self, stage: Stage) -> None:
        """Waits until every label that was said has its effect on what is served."""
        self.await_answers(at_most=0)
        if not self._await_labels():
            self._hands.say(f"{stage.name}: not all labels arrived within {self._limits.label_s:g} s")
        ends = self._ledger.label_ends()
        in_time = self._await_live(ends)
        if lacking := self._watcher.sight().lacking(ends):
            why = (
                "held back to measure on, or repeated" if in_time else f"not learned within {self._limits.learn_s:g} s"
            )
            self._hands.say(f"{stage.name}: the last {lacking} labels changed nothing ({why})")

    def _examine(self, number: int, stages: Sequence[Stage]) -> None:
        items = [(item, place) for place, stage in enumerate(stages) for item in stage.test]
        random.Random(f"{self._seed}/test/{number}").shuffle(items)
        self._hands.say(f"{stages[-1].name}: learned; {len(items)} test items of {len(stages)} stages")
        for item, place in items:
            self.await_answers(at_most=MAX_OUTSTANDING - 1)
            self.send(item, stage=place, time_ms=self._hands.now_ms(), round=number)
        self.await_answers(at_most=0)

    def await_answers(self, *, at_most: int) -> None:
        """Returns when `at_most` events are unanswered; those that nobody answers for long are given up, and said."""
        last, since_s = -1, time.monotonic()
        while not self._ledger.wait(lambda counts: counts.outstanding - self._given_up <= at_most, self._limits.look_s):
            self._hands.check()
            counts = self._ledger.progress().counts
            if counts.answered != last:
                last, since_s = counts.answered, time.monotonic()
            elif time.monotonic() - since_s > self._limits.answer_s:
                self._given_up = counts.outstanding
                self._hands.say(f"no answer for {self._limits.answer_s:g} s; {counts.outstanding} events are given up")

    def _await_labels(self) -> bool:
        deadline_s = time.monotonic() + self._limits.label_s
        while not self._ledger.wait(lambda counts: counts.labelled >= counts.due, self._limits.look_s):
            self._hands.check()
            if time.monotonic() >= deadline_s:
                return False
        return True

    def _await_live(self, ends: Mapping[str, int]) -> bool:
        """Whether the labels below `ends` are live in time; promotes their version where nothing is left to judge it.

        Labels that are held back to measure on, or repeated, make no new version: where no other follows within
        `quiet_s`, the newest has learned all that there is.
        """
        deadline_s = time.monotonic() + self._limits.learn_s
        newest, since_s = 0, time.monotonic()
        while not self._watcher.wait(lambda sight: sight.is_live(ends), self._limits.look_s):
            self._hands.check()
            now_s, sight = time.monotonic(), self._watcher.sight()
            if now_s >= deadline_s:
                return False
            if sight.newest != newest:
                newest, since_s = sight.newest, now_s
            is_last = sight.covers(newest, ends) or now_s - since_s >= self._limits.quiet_s
            if is_last and sight.stable == newest and sight.is_taken:
                return True
            if is_last and sight.stable != newest and now_s - since_s >= self._limits.judge_s:
                self._hands.say(f"no label is left to judge version {newest} by: promoted by the demo")
                self._hands.promote(newest)
                since_s = now_s
        return True
