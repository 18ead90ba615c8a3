"""The operators' commands that the learner has read, with their outcomes. They are part of its checkpoint.

    command log in the store --read--> kept commands (an erasure, a renamed class): stored for ever, since what the
                                       learner knows depends on them
                                       one-time commands (an offered encoder, a repair): stored until their outcome is
                                       final and reported

A checkpoint contains a command and its effect, or neither. `Knowledge.applied_seq` is the sequence number of the last
kept command whose effect the knowledge contains. After a kill, and after the learner went back to an earlier version,
the kept commands with higher sequence numbers are executed again.
"""

from bisect import bisect_right, insort
from collections.abc import Iterator

import msgspec

from wire.records import Command, CommandEntry, CommandOutcome, Erase, LabelCommand


class CommandsState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of `HeldCommands`, as in a checkpoint."""

    entries: list[CommandEntry] = []
    last: Command | None = None

    @property
    def digests(self) -> list[str]:
        """The digests of the erased subjects."""
        return [command.read(Erase).digest for command in self._of(Erase.VERB)]

    def label_commands(self, applied_seq: int) -> list[LabelCommand]:
        """Returns the commands that changed the set of labels, up to the sequence number `applied_seq`."""
        return [command.read(LabelCommand) for command in self._of(LabelCommand.VERB) if command.seq <= applied_seq]

    def _of(self, verb: str) -> list[Command]:
        """Returns the commands with this verb that were not refused."""
        accepted = [entry for entry in self.entries if entry.outcome is None or entry.outcome.state != "refused"]
        return [command for command, _ in accepted if command.verb == verb]


class HeldCommands:
    """The commands that the learner has read and still needs, with their outcomes. Belongs to the learner's thread.

    last          the last command that was read from the log, with any verb
    last_kept     the sequence number of the last kept command
    num_one_time  how many one-time commands are stored here
    unreported    the sequence numbers of the commands whose current outcome was not yet written to the store
    clean_since   the first version without any erased data; 0 before an erasure is published
    """

    def __init__(self, state: CommandsState | None = None) -> None:
        self._kept: dict[int, CommandEntry] = {}
        # The keys of `_kept` in increasing order.
        self._kept_seqs: list[int] = []
        self._one_time: dict[int, CommandEntry] = {}
        # Applied commands that no published version contains.
        self._applied = set[int]()
        self.unreported = set[int]()
        self.last_kept = 0
        self.num_one_time = 0
        self.clean_since = 0
        self.last = state.last if state else None
        for command, outcome in state.entries if state else ():
            self.add(command)
            if outcome is not None:
                self.note(outcome)

    def add(self, command: Command) -> None:
        """Adds a command that was read from the log and is not executed yet."""
        if command.is_kept:
            self._kept[command.seq] = CommandEntry(command)
            insort(self._kept_seqs, command.seq)
            self.last_kept = self._kept_seqs[-1]
        else:
            self._one_time[command.seq] = CommandEntry(command)
            self.num_one_time = len(self._one_time)
        self.unreported.add(command.seq)

    def note(self, outcome: CommandOutcome) -> None:
        """Records the outcome of a command that was added before. Raises KeyError for any other command."""
        seq = outcome.seq
        entries = self._kept if seq in self._kept else self._one_time
        entries[seq] = CommandEntry(entries[seq].command, outcome)
        self.unreported.add(seq)
        if outcome.state == "applied":
            self._applied.add(seq)
        else:
            self._applied.discard(seq)
        if entries[seq].command.verb == Erase.VERB:
            self.clean_since = max(self.clean_since, outcome.version)

    def drop(self, seq: int) -> None:
        """Forgets a one-time command. Raises KeyError."""
        del self._one_time[seq]
        self.num_one_time = len(self._one_time)

    def next_after(self, applied_seq: int) -> Command | None:
        """Returns the first kept command with a sequence number above `applied_seq`; None if there is none."""
        index = bisect_right(self._kept_seqs, applied_seq)
        return self._kept[self._kept_seqs[index]].command if index < len(self._kept_seqs) else None

    def open_commands(self) -> list[Command]:
        """Returns the one-time commands that have no outcome yet."""
        return [command for command, outcome in self._one_time.values() if outcome is None]

    def last_one_time(self, verb: str) -> int:
        """Returns the sequence number of the last one-time command with this verb; 0 if none is stored here."""
        return max((command.seq for command, _ in self._one_time.values() if command.verb == verb), default=0)

    def mark_published(self, version: int, applied_seq: int) -> None:
        """Marks the applied commands up to the sequence number `applied_seq` as published, first in `version`."""
        for seq in sorted(self._applied):
            if seq <= applied_seq:
                outcome = self._kept[seq].outcome
                assert outcome is not None, "an applied command has an outcome"
                self.note(msgspec.structs.replace(outcome, state="published", version=version))

    def published_outcomes(self) -> list[CommandOutcome]:
        """Returns the outcomes that are `published` and reported to the store, but not yet `purged`."""
        outcomes = [outcome for _, outcome in self._kept.values() if outcome is not None]
        return [outcome for outcome in outcomes if outcome.state == "published" and outcome.seq not in self.unreported]

    def reopen(self, applied_seq: int) -> bool:
        """Marks the kept commands after `applied_seq` as not executed, so that they are executed again.

        The learner calls it after it went back to an earlier version, which does not contain their effects. Returns
        whether an erasure is among them.
        """
        reopened = self._kept_seqs[bisect_right(self._kept_seqs, applied_seq) :]
        for seq in reopened:
            self._kept[seq] = CommandEntry(self._kept[seq].command)
        self._applied.difference_update(reopened)
        self.unreported.update(reopened)
        erasures = [entry for entry in self._kept.values() if entry.command.verb == Erase.VERB]
        self.clean_since = max((entry.outcome.version for entry in erasures if entry.outcome), default=0)
        return any(self._kept[seq].command.verb == Erase.VERB for seq in reopened)

    def entry(self, seq: int) -> CommandEntry:
        """Returns the command with this sequence number, and its outcome. Raises KeyError."""
        return self._kept[seq] if seq in self._kept else self._one_time[seq]

    def label_commands(self, applied_seq: int) -> list[LabelCommand]:
        """Returns the commands that changed the set of labels, up to the sequence number `applied_seq`."""
        return self.export().label_commands(applied_seq)

    def export(self) -> CommandsState:
        return CommandsState(entries=list(self), last=self.last)

    def __iter__(self) -> Iterator[CommandEntry]:
        return iter([*self._kept.values(), *self._one_time.values()])

    def __len__(self) -> int:
        return len(self._kept) + len(self._one_time)
