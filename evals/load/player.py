"""Plays a stream, one stage after the other.

    for each stage:  play (events at the rate) -> settle (labels learnt, and live) -> examine (all test items so far)

Training events are an open loop: the time of an event is the time at which it should be sent, so a service that falls
behind has a higher latency. Test items are a closed loop: they are sent as fast as they are answered, with a bounded
number of unanswered items.

Settling waits until every label that was sent affects the served answers:

    last label in its topic --> current version has learnt it --> stable version has --> every replica follows

Two cases end the wait early:

- No label is left by which the controller could judge the newest version. The version keeps its share of the traffic,
  and a line says so.
- No version was published for a while. Labels in the holdout and repeated labels do not lead to a new version, so the
  current version has learnt all labels.

After the last stage, the player also waits for the learner's rehearsal.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle

from evals.load.ledger import FILLER, TRAIN, Ledger, LoadCounts
from evals.load.sender import Sender
from evals.load.watcher import ServiceSnapshot, Watcher
from evals.streams.stream import Arrival, Stream, StreamItem, TextStage
from wire.inputs import decode_content
from wire.records import Event


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """The timeouts of the player, in seconds. After a timeout the player says so and continues."""

    answer_s: float = 60.0
    """The timeout for the next answer."""
    label_s: float = 60.0
    """The timeout until the last label of a stage is in its topic."""
    learn_s: float = 120.0
    """The timeout until a version that has learnt all labels is stable and served by every replica."""
    rest_s: float = 480.0
    """The timeout for the learner's rehearsal after the last stage."""
    judge_s: float = 1.0
    """The time that the controller has to make the current version stable before the player continues."""
    quiet_s: float = 5.0
    """A learner that has not published for this time has learnt all labels."""
    poll_interval_s: float = 0.5
    """The longest time between two checks that all parts of the run are alive."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Callbacks:
    """The functions that the caller provides."""

    began_ms: int
    """The time at which the process of the run was started."""
    now_ms: Callable[[], int]
    say: Callable[[str], None]
    """Is called with lines for a human."""
    check: Callable[[], None]
    """Raises an exception if a part of the run has ended."""


SOURCE = "demo"
MAX_OUTSTANDING = 256
"""The most unanswered test items at a time. These are several batches, so that the service always has work."""

FILLER_RATE = 50.0
"""The most filler events a second. Fillers keep the stream going, so that the first answer of a version is seen."""


class Player:
    """Sends the events of a run: a whole stream by `run`, or parts of it by `play`, `send` and `await_answers`."""

    def __init__(
        self,
        ledger: Ledger,
        watcher: Watcher,
        sender: Sender,
        callbacks: Callbacks,
        *,
        timeouts: Timeouts,
        seed: int,
    ) -> None:
        self._ledger = ledger
        self._watcher = watcher
        self._sender = sender
        self._callbacks = callbacks
        self._timeouts = timeouts
        self._seed = seed
        self._num_given_up = 0
        self._has_answer = False
        self.before_stage: Callable[[int], None] = lambda number: None
        """Is called before each stage with its number. It may send other events and wait."""

    def run(self, stream: Stream, *, rate: float) -> None:
        """Plays the stream at `rate` events a second.

        A stream with arrivals is played without a pause and tested at its end. Other streams are played stage after
        stage, with a test after each.
        """
        last = len(stream.stages) - 1
        if stream.arrivals:
            self.play(stream.name, stream.arrivals, rate)
            self._settle(stream.name, stream.arrivals, rate)
            self._examine(last, stream.stages)
            return
        for number, stage in enumerate(stream.stages):
            self.before_stage(number)
            arrivals = [Arrival(item, number) for item in stage.train]
            self.play(stage.name, arrivals, rate)
            self._settle(stage.name, arrivals, rate, rests=number == last)
            self._examine(number, stream.stages[: number + 1])

    def play(self, name: str, arrivals: Sequence[Arrival], rate: float) -> None:
        """Sends training items, each at its time."""
        self._callbacks.say(f"{name}: {len(arrivals)} events at {rate:g} a second")
        start_s = time.monotonic()
        start_ms = self._callbacks.now_ms()
        for number, (item, stage) in enumerate(arrivals):
            self._sleep_until(start_s + number / rate)
            self.send(item, stage=stage, time_ms=start_ms + round(1000 * number / rate))
            self._say_first()

    def _say_first(self) -> None:
        if not self._has_answer and (first_ms := self._ledger.progress().first_ms):
            self._has_answer = True
            self._callbacks.say(
                f"first answer {(min(first_ms.values()) - self._callbacks.began_ms) / 1000:.1f} s after the start"
            )

    def _sleep_until(self, moment_s: float) -> None:
        """Sleeps until `moment_s` of the monotonic clock. Meanwhile it checks that all parts of the run are alive."""
        while (left_s := moment_s - time.monotonic()) > 0:
            time.sleep(min(left_s, self._timeouts.poll_interval_s))
            if left_s > self._timeouts.poll_interval_s:
                self._callbacks.check()

    def send(self, item: StreamItem, *, stage: int, time_ms: int, round: int = TRAIN) -> None:
        """Sends one event now. `time_ms` is the time in the event."""
        event_id = self._ledger.record_event(item, stage=stage, time_ms=time_ms, round=round)
        self._sender.send(Event(id=event_id, source=SOURCE, time_ms=time_ms, **decode_content(item.text)))

    def _settle(self, name: str, arrivals: Sequence[Arrival], rate: float, *, rests: bool = False) -> None:
        """Sends these texts again as fillers, without labels or scores, until their labels are live.

        If `rests`, it also waits until the learner is at rest.
        """
        fillers = cycle(arrivals)

        def fill() -> None:
            if self._ledger.progress().counts.outstanding < MAX_OUTSTANDING:
                item, stage = next(fillers)
                self.send(item, stage=stage, time_ms=self._callbacks.now_ms(), round=FILLER)

        self.await_answers(at_most=0)
        every_s = min(1.0 / min(rate, FILLER_RATE), self._timeouts.poll_interval_s)
        settler = Settler(self._ledger, self._watcher, self._callbacks, self._timeouts, fill, every_s)
        settler.settle(name)
        if rests:
            settler.rest()
        self.await_answers(at_most=0)

    def _examine(self, number: int, stages: Sequence[TextStage]) -> None:
        """Sends the test items of these stages in random order, as test round `number`, and waits for the answers."""
        items: list[tuple[StreamItem, int]] = []
        for stage_number, stage in enumerate(stages):
            items += [(item, stage_number) for item in stage.test]
        random.Random(f"{self._seed}/test/{number}").shuffle(items)
        self._callbacks.say(f"{stages[-1].name}: learnt; {len(items)} test items of {len(stages)} stages")
        for item, stage_number in items:
            self.await_answers(at_most=MAX_OUTSTANDING - 1)
            self.send(item, stage=stage_number, time_ms=self._callbacks.now_ms(), round=number)
        self.await_answers(at_most=0)

    def await_answers(self, *, at_most: int) -> None:
        """Waits until at most `at_most` events are unanswered.

        If no answer comes for `answer_s`, all unanswered events are given up, and a line says so.
        """
        last = -1
        since_s = time.monotonic()

        def is_answered(counts: LoadCounts) -> bool:
            return counts.outstanding - self._num_given_up <= at_most

        while not self._ledger.wait(is_answered, self._timeouts.poll_interval_s):
            self._callbacks.check()
            counts = self._ledger.progress().counts
            if counts.answered != last:
                last = counts.answered
                since_s = time.monotonic()
            elif time.monotonic() - since_s > self._timeouts.answer_s:
                self._num_given_up = counts.outstanding
                waited = f"no answer for {self._timeouts.answer_s:g} s"
                self._callbacks.say(f"{waited}; {counts.outstanding} events are given up")


@dataclass(frozen=True, slots=True)
class _Current:
    """The current version, and the time at which it became current."""

    version: int
    since_s: float


@dataclass(frozen=True, slots=True)
class Settler:
    """Waits until the service has learnt, and calls `meanwhile` every `every_s` seconds: real streams do not pause."""

    ledger: Ledger
    watcher: Watcher
    callbacks: Callbacks
    timeouts: Timeouts
    meanwhile: Callable[[], None]
    every_s: float

    def settle(self, stage: str) -> None:
        """Waits until all labels are live, or until a timeout. Says how many labels were not learnt."""
        if not self._await_labels():
            self.callbacks.say(f"{stage}: not all labels arrived within {self.timeouts.label_s:g} s")
        ends = self.ledger.label_ends()
        in_time = self._await_live(lambda snapshot, version: snapshot.covers(version, ends))
        if num_missing := self.watcher.snapshot().num_missing(ends):
            late = f"not learnt within {self.timeouts.learn_s:g} s"
            why = "in the holdout, or repeated" if in_time else late
            self.callbacks.say(f"{stage}: the last {num_missing} labels changed nothing ({why})")

    def rest(self) -> None:
        """Waits until the learner has rehearsed after the last label, and the resulting version is live.

        consumes: snapshots; produces: what `meanwhile` does
        waits for: a learner at rest; unblocked by: it, or the timeout
        """
        deadline_s = time.monotonic() + self.timeouts.rest_s
        while not self.watcher.wait(lambda snapshot: snapshot.is_rested, self.every_s):
            self._pass_time()
            if time.monotonic() >= deadline_s:
                self.callbacks.say(f"the learner did not finish within {self.timeouts.rest_s:g} s")
                return
        self._await_live(lambda snapshot, version: False)

    def _await_labels(self) -> bool:
        """Waits for the labels. Returns whether all labels were in their topic before the timeout.

        consumes: the ledger; produces: what `meanwhile` does; waits for: labels; unblocked by: them, or the timeout
        """
        deadline_s = time.monotonic() + self.timeouts.label_s
        while not self.ledger.wait(lambda counts: counts.labelled >= counts.due, self.every_s):
            self._pass_time()
            if time.monotonic() >= deadline_s:
                return False
        return True

    def _await_live(self, covers: Callable[[ServiceSnapshot, int], bool]) -> bool:
        """Waits for the weights. Returns whether a version that `covers` all labels was live before the timeout.

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

    def _is_over(self, snapshot: ServiceSnapshot, current: _Current, covers_all: bool, now_s: float) -> bool:
        """Returns whether the current version has learnt all labels, and the rollout cannot give it more traffic."""
        age_s = now_s - current.since_s
        if not covers_all and age_s < self.timeouts.quiet_s:
            return False
        if snapshot.stable == current.version:
            return snapshot.is_rolled_out
        if age_s < self.timeouts.judge_s:
            return False
        self.callbacks.say(f"no label is left by which version {current.version} can be judged: it keeps its share")
        return True

    def _pass_time(self) -> None:
        self.callbacks.check()
        self.meanwhile()
