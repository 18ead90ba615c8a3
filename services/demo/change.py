"""Changes the profile of the service during a run, while events arrive and labels are learnt.

    a quarter of the events sent --> offer of the encoder --learner decides--> promoted by the operator --> Change

An operator chooses a profile for its size and speed, so the demo promotes it like an operator. The canary would hold an
encoder that is less accurate. Replicas load the new encoder while the old one answers, and swap between two batches.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from evals.load.ledger import Ledger
from evals.load.mixed import Recomputed, recompute
from model.encoders import open_inputs
from rollout.operator import Operator
from services.members.adopt import AdoptOptions, Decided, offer
from services.operator_commands import NotDoneYet, await_outcome
from services.profiles.profile import NANO, Profile, after_restart, restart_lines
from services.settings import Settings
from wire.bus import Bus, read_all_records
from wire.records import Answer, CommandOutcome
from wire.store import Store
from wire.threads import BackgroundThread
from wire.timestamps import now_ms

OFFERED_AFTER = 0.25
"""Fraction of the events before the offer. On two busy cores the learner decides about half a minute later."""

MAX_LOSS = 0.1
"""Accuracy that the smallest profile may lose."""

DECIDES_WITHIN_S = 600.0
POLL_S = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """The result of a change of profile.

    `recomputed` compares all answers of the run with the same answers computed again. `after_restart` has the settings
    that the profile changes at the next start, with the present value and the next value.
    """

    profile: str
    outcome: CommandOutcome | None
    recomputed: Recomputed
    after_restart: Mapping[str, tuple[object, object]] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """The result in one line."""
        recomputed = self.recomputed
        state = "not decided" if self.outcome is None else self.outcome.state
        counts = " and ".join(map(str, recomputed.encoders))
        return (
            f"change to profile {self.profile}: {state}; {counts} answers by one encoder after another, "
            f"{recomputed.mixed} of {recomputed.answers} mixed"
        )


class ProfileChange:
    """Offers `encoder`, the encoder of `profile`, after the fraction OFFERED_AFTER of `num_events` was sent."""

    def __init__(
        self,
        profile: Profile[Any],
        encoder: str,
        store: Store,
        *,
        settings: Settings,
        num_events: int,
        say: Callable[[str], None],
    ) -> None:
        self._profile = profile
        self._encoder = encoder
        self._store = store
        self._settings = settings
        self._num_events = num_events
        self._say = say
        self._tokenizer = open_inputs(settings.encoder, max_tokens=settings.serving.max_tokens)
        self._outcome: CommandOutcome | None = None

    @contextmanager
    def during(self, ledger: Ledger) -> Iterator[None]:
        """Changes the profile while the block runs, and waits at its end for the learner's decision."""
        is_done = threading.Event()
        thread = BackgroundThread(lambda: self._run(ledger, thread.closing, is_done), name="demo-change")
        thread.start()
        try:
            yield
            is_done.wait(DECIDES_WITHIN_S)
        finally:
            thread.close()

    def compare_answers(self, bus: Bus) -> Change:
        """Computes every answer of the run again, and returns the result of the change."""
        answers = (record for record in read_all_records(bus, [Answer]) if isinstance(record, Answer))
        recomputed = recompute(answers, self._store, self._tokenizer)
        return Change(
            profile=self._profile.name,
            outcome=self._outcome,
            recomputed=recomputed,
            after_restart=after_restart(self._settings, self._profile),
        )

    def _run(self, ledger: Ledger, closing: threading.Event, is_done: threading.Event) -> None:
        """Waits for the time of the offer, then changes the profile.

        consumes: the counts of the ledger
        produces: an offer, a promotion
        waits for: OFFERED_AFTER of the events; the learner's decision
        unblocked by: an answered event, an outcome; close, at the next of them
        """
        while not ledger.wait(lambda counts: counts.sent >= self._num_events * OFFERED_AFTER, POLL_S):
            if closing.is_set():
                return
        try:
            self._change()
        finally:
            is_done.set()

    def _change(self) -> None:
        learner = self._settings.learner
        options = AdoptOptions(max_loss=MAX_LOSS if self._profile is NANO else None)
        command = offer(
            self._store,
            self._encoder,
            options,
            learner=learner,
            tokenizer=self._tokenizer,
            say=_say_nothing,
            source="demo",
        )
        self._say(f"The encoder of profile {self._profile.name} is offered to the learner.")
        try:
            decided = Decided(await_outcome(self._store, command, timeout_s=DECIDES_WITHIN_S))
        except NotDoneYet as error:
            self._say(str(error))
            return
        self._outcome = decided.outcome
        for line in decided.lines():
            self._say(line)
        if not decided.is_refused:
            operator = Operator(self._store, name="demo", config=self._settings.rollout)
            operator.promote(decided.outcome.version, now_ms=now_ms())
            for line in restart_lines(self._settings, self._profile):
                self._say(line)


def _say_nothing(_: str) -> None:
    """Does nothing: the panel of the demo shows the progress."""
