"""Executes the operators' commands: reads the log in the store, runs the handlers in its order, reports the outcomes.

    log --read--> HeldCommands --handler of the verb--> effect --checkpoint, version--> outcome --report--> log

There are two kinds of commands:

    kept      open --> applied --> published in a version --> purged. Executed if its sequence number is above the
              knowledge's `applied_seq`. So it is executed again after a kill, after a start without a checkpoint, and
              after a return to an earlier version.
    one-time  executed until it has a final outcome in the log.

The whole log is executed before any record is learnt. So a learner that starts without a checkpoint never learns about
an erased subject, or an old class name. Only the log determines the order of commands. A checkpoint contains a command
and its effect, or neither, and every later manifest contains the sequence number of the command. If the learner is
killed between the effect and the checkpoint, it executes the command again. If it is killed between the checkpoint and
the report, it reports the outcome again. If the store has lost its log, the learner writes and signs the log again.
Commands that came meanwhile are placed after the restored ones.
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
from learner.release.handlers import HANDLERS, Context, SuspectBlobs
from learner.release.publisher import WeightPublisher
from learner.state.checkpoints import Checkpoints
from wire.errors import StaleEpoch, StoreUnavailable, WireError
from wire.records import Command, CommandEntry, CommandOutcome
from wire.store import Store, append_entries

INTERVAL_S = 1.0
"""The shortest time between two reads of the log."""

PURGE_INTERVAL_S = 10.0
"""The shortest time between two checks for purged commands: all versions and checkpoints from before them are gone."""

log = structlog.get_logger("learner")


class CommandRunner:
    """Polls the log of commands and executes them. Belongs to the learner's thread.

    A poll may take seconds. It raises StaleEpoch as soon as another learner is known to lead.
    """

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
        self._suspects = SuspectBlobs(self._context, verify_every_s=verify_every_s)
        self._next_s = 0.0
        self._purge_at_s = 0.0
        self._is_failing = False

    def catch_up(self) -> None:
        """Executes the whole log, before any record is learnt. Raises StaleEpoch, WireError."""
        self._read()
        self._execute_all()

    def poll(self) -> None:
        """Executes the commands that are due. Reads the log once per interval, while the store is reachable.

        Raises StaleEpoch.
        """
        read_before = self._learner.commands
        is_waiting = read_before.num_one_time or read_before.last_kept > self._learner.knowledge.applied_seq
        is_time = self._clock_s() >= self._next_s and self._breaker.allows_requests
        if is_time:
            self._next_s = self._clock_s() + INTERVAL_S
        elif self._is_failing or not is_waiting:
            return
        try:
            if is_time:
                self._read()
            self._execute_all()
            if is_time:
                # A command is marked as purged only after the store has its `published` outcome.
                self._report()
                self._mark_purged()
                self._report()
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
        """Reads the new commands of the log, and adds those that have a handler here and no final outcome yet."""
        read_before = self._learner.commands
        commands = self._store.commands.read(read_before.last.seq if read_before.last else 1)
        last = commands[-1] if commands else None
        # The log must still contain the last command that was read. Otherwise the store has lost commands.
        if read_before.last is not None and commands[:1] == [read_before.last]:
            commands = commands[1:]
        elif read_before.last is not None:
            commands, last = self._restore_log()
        ours = [command for command in commands if command.verb in self._handlers]
        decided = self._store.commands.outcomes([command for command in ours if not command.is_kept])
        for command in ours:
            outcome = decided.get(command.seq)
            if outcome is None or not outcome.is_final:
                read_before.add(command)
        # If the store fails before this line, the next poll reads the commands again.
        read_before.last = last

    def _restore_log(self) -> tuple[list[Command], Command | None]:
        """Writes the log again, if the store has lost commands that the learner has read.

        Returns the commands of the log that the learner has not read, and the last command of the log.
        """
        read_before = self._learner.commands
        ours = sorted(read_before, key=lambda entry: entry.command.seq)
        stored = self._store.commands.entries()
        stored_by_seq = {entry.command.seq: entry.command for entry in stored}
        if any(stored_by_seq.get(command.seq) != command for command, _ in ours):
            log.warning("commands_restored", held=len(ours), found=len(stored))
            stored = list(self._store.commands.rewrite(lambda found: append_entries(ours, _without(found, ours))))
            read_before.unreported |= {command.seq for command, _ in ours}
        unknown = [command for command, _ in _without(stored, ours)]
        return unknown, stored[-1].command if stored else None

    def _execute_all(self) -> None:
        """Executes the kept commands that the knowledge lacks, in the order of the log, then the one-time commands."""
        follow_settings(self._learner)
        commands = self._learner.commands
        while (command := commands.next_after(self._learner.knowledge.applied_seq)) is not None:
            # A pending version does not contain the command.
            self._publisher.complete(wait=True)
            self._publisher.give_up_refused()
            # If the learner went back to the published version, earlier commands may have to be executed again first.
            if commands.next_after(self._learner.knowledge.applied_seq) == command:
                self._execute_kept(command)
        for command in commands.open_commands():
            if (outcome := self._execute(command)) is not None:
                commands.note(outcome)

    def _execute_kept(self, command: Command) -> None:
        """Executes a kept command, and records its sequence number in the knowledge."""
        learner = self._learner
        outcome = self._execute(command)
        assert outcome is not None, f"the handler of {command.verb}, a kept command, must decide at once"
        learner.knowledge.applied_seq = command.seq
        learner.progress.break_off()
        learner.commands.note(outcome)
        self._publisher.parent.make_due()
        failpoint("after-command")

    def _execute(self, command: Command) -> CommandOutcome | None:
        """Runs the handler of a command; returns the outcome, or None while the command stays open."""
        handler = self._handlers.get(command.verb)
        if handler is None:
            reason = f"this learner has no handler for {command.verb}"
            return self._context.outcome(command, "refused", {}, reasons=(reason,))
        try:
            body = command.read(handler.body)
        except msgspec.ValidationError as error:
            return self._context.outcome(command, "refused", {}, reasons=(f"it cannot be read: {error}",))
        return handler.apply(self._context, command, body)

    def _mark_purged(self) -> None:
        """Marks published commands as purged if no version and no checkpoint from before them is left.

        The learner's folder and the shared address are searched for checkpoints.
        """
        if self._clock_s() < self._purge_at_s:
            return
        self._purge_at_s = self._clock_s() + PURGE_INTERVAL_S
        waiting = self._learner.commands.published_outcomes()
        if not waiting:
            return
        try:
            self._publisher.writer.prune()
        except CheckpointFailed as error:
            # The checkpoint under way could not be written. The next check tries again.
            log.warning("purge_failed", reason=str(error))
            return
        in_checkpoints = [entry.version for entry in self._checkpoints.entries() if entry.version]
        oldest = min([*self._store.versions.stored(), *in_checkpoints], default=0)
        gone = [outcome for outcome in waiting if outcome.version <= oldest]
        if gone and not self._checkpoints.has_older_shared():
            for outcome in gone:
                self._learner.commands.note(msgspec.structs.replace(outcome, state="purged", numbers={}))

    def _report(self) -> None:
        """Reports the outcomes that have changed to the store; drops the one-time commands that are final."""
        commands = self._learner.commands
        outcomes = [_outcome_or_open(commands.entry(seq)) for seq in sorted(commands.unreported)]
        if not outcomes:
            return
        self._store.commands.note(outcomes)
        commands.unreported.clear()
        for outcome in outcomes:
            if outcome.is_final and not commands.entry(outcome.seq).command.is_kept:
                commands.drop(outcome.seq)


def _outcome_or_open(entry: CommandEntry) -> CommandOutcome:
    """Returns the outcome of a command, or the outcome `open` if it has none."""
    command, outcome = entry
    return outcome or CommandOutcome(seq=command.seq, time_ms=command.time_ms, state="open")


def _without(entries: Sequence[CommandEntry], others: Sequence[CommandEntry]) -> list[CommandEntry]:
    """Returns the entries whose commands are not in `others`."""
    known = {command.seq: command for command, _ in others}
    return [entry for entry in entries if known.get(entry.command.seq) != entry.command]
