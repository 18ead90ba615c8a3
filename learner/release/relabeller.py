"""Follows the commands about labels that are in the store, and notes there what became of them.

    commands in the store --> memories, sums and evidence under the new names --> next version --> note

A command is followed once in what is known: its number is in the checkpoint. What the learner goes back to after a
rollback may not know a command yet, and follows it again. Commands are permanent and their effect does not depend on
the moment, so a kill or a restart changes nothing, and a store that was wiped gets them back from the checkpoint.

The first version after a change is compared with its parent by the names of now. Labels that the gate refused before
are set aside first, so that a change is no way past the gate.
"""

import time
from collections.abc import Callable

import msgspec
import structlog

from learner.leadership import Leadership
from learner.learner import Learner
from learner.relabelling import follow_settings, relabel
from learner.release.publisher import WeightPublisher
from learner.release.store_turns import StoreTurns
from wire.errors import NotFound
from wire.records import LabelCommand, LabelOutcome
from wire.store import Store

log = structlog.get_logger("learner")


class Relabeller:
    """Belongs to the learner's thread. `_outcomes` has what the store does not know yet of commands, by number."""

    def __init__(
        self,
        learner: Learner,
        store: Store,
        publisher: WeightPublisher,
        *,
        leadership: Leadership,
        now_ms: Callable[[], int],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._learner = learner
        self._store = store
        self._publisher = publisher
        self._now_ms = now_ms
        self._turns = StoreTurns(
            leadership, learner.counts, count="label_commands_unread", event="label_commands_unread", clock_s=clock_s
        )
        self._outcomes: dict[int, LabelOutcome] = {}
        self._has_read = False

    def carry_out(self) -> None:
        """Reads the commands now and then, and follows those that are new, or that what is known does not know.

        Raises StaleEpoch.
        """
        self._turns.take(self._ask)
        learner = self._learner
        follow_settings(learner)
        while learner.knowledge.labels.number < len(learner.label_commands):
            self._follow(learner.label_commands[learner.knowledge.labels.number])

    def _ask(self) -> None:
        if self._read():
            self._find_unpublished()
        self._note()

    def _read(self) -> bool:
        """Reads the new commands; whether they are the first that this process reads, or the store was wiped."""
        known = self._learner.label_commands
        commands = tuple(self._store.labels.requested(max(len(known) - 1, 0)))
        is_first = not self._has_read
        if known and commands[:1] != known[-1:]:
            for command in known:
                self._store.labels.request(command)
            commands = known[-1:]
            is_first = True
        self._learner.label_commands += commands[1:] if known else commands
        self._has_read = True
        return is_first

    def _find_unpublished(self) -> None:
        """Finds the commands that were followed, of which the store knows no version."""
        for number in range(1, self._learner.knowledge.labels.number + 1):
            noted = self._store.labels.outcome(number)
            if noted is None or not noted.version:
                self._outcomes[number] = noted or LabelOutcome(number=number, time_ms=self._now_ms())

    def _follow(self, command: LabelCommand) -> None:
        self._publisher.complete(wait=True)  # the version on its way has the labels of before
        self._publisher.give_up_refused()
        samples = relabel(self._learner, command)
        self._publisher.parent.make_due()
        self._outcomes[command.number] = LabelOutcome(number=command.number, time_ms=self._now_ms(), samples=samples)

    def _note(self) -> None:
        """Writes to the store what became of the commands, and in which version, as soon as there is one."""
        version = self._learner.version
        if not self._outcomes or not version:
            return
        try:
            num_followed = self._store.versions.manifest(version).label_commands
        except NotFound:  # the store was wiped: the next version is published soon
            return
        for number, outcome in list(self._outcomes.items()):
            is_published = num_followed >= number
            self._store.labels.note(msgspec.structs.replace(outcome, version=version if is_published else 0))
            if is_published:
                del self._outcomes[number]
