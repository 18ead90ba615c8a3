"""Plays the stream, one stage after the other.

    for each stage:  play (events at the rate) -> settle (labels learnt, and live) -> examine (all test items so far)

Training events are an open loop: an event's time is when it should be sent, so a service that falls behind shows it in
its latency. Test items are a closed loop: they are sent as fast as they are answered, a bounded number at a time.
"""

import random
import time
from collections.abc import Sequence
from itertools import cycle

from evals.load.callbacks import Callbacks, Timeouts
from evals.load.ledger import FILLER, TRAIN, Ledger, LoadCounts
from evals.load.outbox import LoadOutbox
from evals.load.settle import Settler
from evals.load.watcher import Watcher
from evals.streams.stream import Arrival, Stream, StreamItem, TextStage
from wire.records import Event

SOURCE = "demo"
MAX_OUTSTANDING = 256
"""The most test items that are unanswered at a time: some batches, so that the service is never without work."""

FILLER_RATE = 50.0
"""The most fillers a second, which only keep the stream going: enough to see when a version gives its first answer."""


class Player:
    """Sends every event of a run: all at once by `run`, or piece by piece by `play`, `send` and `await_answers`."""

    def __init__(
        self,
        ledger: Ledger,
        watcher: Watcher,
        outbox: LoadOutbox,
        callbacks: Callbacks,
        *,
        timeouts: Timeouts,
        seed: int,
    ) -> None:
        self._ledger = ledger
        self._watcher = watcher
        self._outbox = outbox
        self._callbacks = callbacks
        self._timeouts = timeouts
        self._seed = seed
        self._num_given_up = 0
        self._has_answer = False

    def run(self, stream: Stream, *, rate: float) -> None:
        """Plays the stream at `rate` events a second: all arrivals, or else stage after stage, each with its test."""
        last = len(stream.stages) - 1
        if stream.arrivals:
            self.play(stream.name, stream.arrivals, rate)
            self._settle(stream.name, stream.arrivals, rate)
            self._examine(last, stream.stages)
            return
        for number, stage in enumerate(stream.stages):
            arrivals = [Arrival(item, number) for item in stage.train]
            self.play(stage.name, arrivals, rate)
            self._settle(stage.name, arrivals, rate, rests=number == last)
            self._examine(number, stream.stages[: number + 1])

    def play(self, name: str, arrivals: Sequence[Arrival], rate: float) -> None:
        """Sends training items, each at its time."""
        self._callbacks.say(f"{name}: {len(arrivals)} events at {rate:g} a second")
        start_s = time.monotonic()
        start_ms = self._callbacks.now_ms()
        for place, (item, stage) in enumerate(arrivals):
            self._sleep_until(start_s + place / rate)
            self.send(item, stage=stage, time_ms=start_ms + round(1000 * place / rate))
            self._say_first()

    def _say_first(self) -> None:
        if not self._has_answer and (first_ms := self._ledger.progress().first_ms):
            self._has_answer = True
            self._callbacks.say(
                f"first answer {(min(first_ms.values()) - self._callbacks.began_ms) / 1000:.1f} s after the start"
            )

    def _sleep_until(self, moment_s: float) -> None:
        """Sleeps until the time has come, and checks meanwhile that everything still runs."""
        while (left_s := moment_s - time.monotonic()) > 0:
            time.sleep(min(left_s, self._timeouts.poll_interval_s))
            if left_s > self._timeouts.poll_interval_s:
                self._callbacks.check()

    def send(self, item: StreamItem, *, stage: int, time_ms: int, round: int = TRAIN) -> None:
        """Sends one event now. `time_ms` is the time that it carries."""
        event_id = self._ledger.record_event(item, stage=stage, time_ms=time_ms, round=round)
        self._outbox.send(Event(id=event_id, text=item.text, source=SOURCE, time_ms=time_ms))

    def _settle(self, name: str, arrivals: Sequence[Arrival], rate: float, *, rests: bool = False) -> None:
        """Goes on sending these texts, unlabelled and not scored, until their labels are live.

        Where it `rests`, it goes on until the learner is at rest.
        """
        again = cycle(arrivals)

        def fill() -> None:
            if self._ledger.progress().counts.outstanding < MAX_OUTSTANDING:
                item, stage = next(again)
                self.send(item, stage=stage, time_ms=self._callbacks.now_ms(), round=FILLER)

        self.await_answers(at_most=0)
        every_s = min(1.0 / min(rate, FILLER_RATE), self._timeouts.poll_interval_s)
        settler = Settler(self._ledger, self._watcher, self._callbacks, self._timeouts, fill, every_s)
        settler.settle(name)
        if rests:
            settler.rest()
        self.await_answers(at_most=0)

    def _examine(self, number: int, stages: Sequence[TextStage]) -> None:
        items: list[tuple[StreamItem, int]] = []
        for place, stage in enumerate(stages):
            items += [(item, place) for item in stage.test]
        random.Random(f"{self._seed}/test/{number}").shuffle(items)
        self._callbacks.say(f"{stages[-1].name}: learnt; {len(items)} test items of {len(stages)} stages")
        for item, place in items:
            self.await_answers(at_most=MAX_OUTSTANDING - 1)
            self.send(item, stage=place, time_ms=self._callbacks.now_ms(), round=number)
        self.await_answers(at_most=0)

    def await_answers(self, *, at_most: int) -> None:
        """Returns when `at_most` events are unanswered; gives up, and says so, when no answer comes for `answer_s`."""
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
