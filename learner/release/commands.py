"""The one poller of what operators ask: reads the log, follows the commands in its order, and says what became of them.

    log --read--> HeldCommands --handler of the verb--> effect --checkpoint, version--> outcome --note--> log

    kept       `applied_seq` in what is known < its number --> followed, also again: after a kill, a start from nothing,
               or a way back of the learner --> applied --> published in a version --> purged
    the others followed until they are decided on, once: what the log says is final is not followed

The whole log is followed before anything is learnt, so a learner that starts from nothing never learns an erased
subject or an old name. The order is that of the log alone. A command and its effect are in one checkpoint, and every
manifest made afterwards has its number. A learner that is killed between the effect and the checkpoint follows the
command again; between the checkpoint and the note it notes it again. A store that lost its log gets it back, signed
again, and what was asked meanwhile comes behind.
"""

import time
from collections.abc import Callable, Sequence

import msgspec
import structlog

from learner.errors import CheckpointFailed
from learner.failpoints import failpoint
from learner.leadership import Leadership
from learner.learner import Learner
from learner.relabelling import follow_settings
from learner.release.handlers import HANDLERS, Context, Suspects
from learner.release.publisher import WeightPublisher
from learner.state.checkpoints import Checkpoints
from wire.errors import StaleEpoch, StoreUnavailable, WireError
from wire.records import Command, CommandEntry, CommandOutcome
from wire.store import Store, merged

INTERVAL_S = 1.0
"""Shortest time between two questions to the store."""

PURGE_S = 10.0
"""Shortest time between two looks whether older versions and checkpoints are gone."""

log = structlog.get_logger("learner")


class CommandRunner:
    """Belongs to the learner's thread. A turn may take seconds, and ends early when another learner leads."""

    def __init__(
        self,
        learner: Learner,
        store: Store,
        checkpoints: Checkpoints,
        publisher: WeightPublisher,
        *,
        leadership: Leadership,
        now_ms: Callable[[], int],
        verify_every_s: float = 0.0,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._learner = learner
        self._store = store
        self._checkpoints = checkpoints
        self._publisher = publisher
        self._breaker = leadership.breaker
        self._clock_s = clock_s
        self._context = Context(
            learner=learner,
            store=store,
            publisher=publisher,
            keep_alive=leadership.check,
            now_ms=now_ms,
            clock_s=clock_s,
        )
        self._handlers = {verb: handler() for verb, handler in HANDLERS.items()}
        self._suspects = Suspects(self._context, verify_every_s=verify_every_s)
        self._next_s = 0.0
        self._purge_at_s = 0.0
        self._is_failing = False

    def catch_up(self) -> None:
        """Follows the whole log, before anything is learnt. Raises StaleEpoch, WireError."""
        self._read()
        self._follow()

    def turn(self) -> None:
        """Follows what waits; asks the store now and then, while it is there. Raises StaleEpoch."""
        held = self._learner.commands
        waits = held.num_passing or held.last_kept > self._learner.knowledge.applied_seq
        is_time = self._clock_s() >= self._next_s and self._breaker.allows_requests
        if is_time:
            self._next_s = self._clock_s() + INTERVAL_S
        elif self._is_failing or not waits:
            return
        try:
            if is_time:
                self._read()
            self._follow()
            if is_time:
                self._note()
                self._mark_purged()
                self._note()
                self._suspects.repair()
            self._is_failing = False
        except StaleEpoch:
            raise
        except WireError as error:
            self._is_failing = True
            if isinstance(error, StoreUnavailable):
                self._breaker.trip(error)
                return
            self._learner.counts["commands_failed"] += 1
            log.warning("commands_failed", reason=str(error))

    def _read(self) -> None:
        """Reads the commands that are new, and takes those that are the learner's and not decided on yet."""
        held = self._learner.commands
        commands = self._store.commands.read(held.last.seq if held.last else 1)
        last = commands[-1] if commands else None
        if held.last is not None and commands[:1] == [held.last]:
            commands = commands[1:]
        elif held.last is not None:
            commands, last = self._restore()
        ours = [command for command in commands if command.verb in self._handlers]
        decided = self._store.commands.outcomes([command for command in ours if not command.is_kept])
        for command in ours:
            outcome = decided.get(command.seq)
            if outcome is None or not outcome.is_final:
                held.add(command)
        # Behind them, or a store that goes away in between would hide them for good.
        held.last = last

    def _restore(self) -> tuple[list[Command], Command | None]:
        """Writes the log again, if the store has lost what is held.

        Returns the commands that are not held, and the last one of the log.
        """
        held = self._learner.commands
        mine = sorted(held, key=lambda entry: entry.command.seq)
        theirs = self._store.commands.entries()
        there = {entry.command.seq: entry.command for entry in theirs}
        if any(there.get(command.seq) != command for command, _ in mine):
            log.warning("commands_restored", held=len(mine), found=len(theirs))
            theirs = list(self._store.commands.rewrite(lambda found: merged(mine, _without(found, mine))))
            held.untold |= {command.seq for command, _ in mine}
        return [command for command, _ in _without(theirs, mine)], theirs[-1].command if theirs else None

    def _follow(self) -> None:
        """Follows what the learner does not know, in the order of the log, then what is open."""
        follow_settings(self._learner)
        held = self._learner.commands
        while (command := held.next_after(self._learner.knowledge.applied_seq)) is not None:
            self._publisher.complete(wait=True)  # the version on its way does not know it
            self._publisher.give_up_refused()
            # If something was set aside, other commands may come first.
            if held.next_after(self._learner.knowledge.applied_seq) == command:
                self._apply(command)
        for command in held.open():
            if (outcome := self._outcome_of(command)) is not None:
                held.note(outcome)

    def _apply(self, command: Command) -> None:
        """Follows a command that is kept: its number is a part of what is known from then on."""
        learner = self._learner
        outcome = self._outcome_of(command)
        assert outcome is not None, f"{command.verb} is kept, and so is applied at once"
        learner.knowledge.applied_seq = command.seq
        learner.progress.break_off()
        learner.commands.note(outcome)
        self._publisher.parent.make_due()
        failpoint("after-command")

    def _outcome_of(self, command: Command) -> CommandOutcome | None:
        handler = self._handlers.get(command.verb)
        if handler is None:
            reason = f"this learner does not know {command.verb}"
            return self._context.outcome(command, "refused", {}, reasons=(reason,))
        try:
            body = command.read(handler.body)
        except msgspec.ValidationError as error:
            return self._context.outcome(command, "refused", {}, reasons=(f"it cannot be read: {error}",))
        return handler.apply(self._context, command, body)

    def _mark_purged(self) -> None:
        """Marks the commands before which no version and no checkpoint is left, here and at the shared address."""
        if self._clock_s() < self._purge_at_s:
            return
        self._purge_at_s = self._clock_s() + PURGE_S
        waiting = self._learner.commands.published()
        if not waiting:
            return
        try:
            self._publisher.writer.prune()
        except CheckpointFailed as error:
            # The disk refuses the checkpoint that is being written: the next turn tries again.
            log.warning("purge_failed", reason=str(error))
            return
        in_checkpoints = [entry.version for entry in self._checkpoints.entries() if entry.version]
        oldest = min([*self._store.versions.stored(), *in_checkpoints], default=0)
        gone = [outcome for outcome in waiting if outcome.version <= oldest]
        if gone and not self._checkpoints.is_older_elsewhere():
            for outcome in gone:
                self._learner.commands.note(msgspec.structs.replace(outcome, state="purged", numbers={}))

    def _note(self) -> None:
        """Tells the store what has become of commands since it was told last; what is over is held no longer."""
        held = self._learner.commands
        told = sorted(held.untold)
        outcomes = [self._told(held.of(seq)) for seq in told]
        if not outcomes:
            return
        self._store.commands.note(outcomes)
        held.untold.clear()
        for outcome in outcomes:
            if outcome.is_final and not held.of(outcome.seq).command.is_kept:
                held.drop(outcome.seq)

    def _told(self, entry: CommandEntry) -> CommandOutcome:
        """Returns what became of a command: it is open while nothing did."""
        command, outcome = entry
        return outcome or CommandOutcome(seq=command.seq, time_ms=command.time_ms, state="open")


def _without(entries: Sequence[CommandEntry], others: Sequence[CommandEntry]) -> list[CommandEntry]:
    """Returns the entries whose commands are not among the others."""
    known = {command.seq: command for command, _ in others}
    return [entry for entry in entries if known.get(entry.command.seq) != entry.command]
