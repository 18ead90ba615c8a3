"""The commands of operators that the learner holds: a part of its checkpoint.

    the log in the store --read--> those whose effect is a part of what is known, for good; others while they are open

A command and its effect are in one checkpoint: `Knowledge.applied_seq` is the number of the last one that is in what is
known. So whatever is above is followed again after a kill, or after the learner went back to an older model.
"""

from bisect import bisect_right, insort
from collections.abc import Iterator

import msgspec

from wire.records import Command, CommandEntry, CommandOutcome, Erase, LabelCommand


class CommandsState(msgspec.Struct, frozen=True, kw_only=True):
    """Holds everything that a `HeldCommands` knows."""

    entries: list[CommandEntry] = []
    last: Command | None = None

    @property
    def digests(self) -> list[str]:
        """The digests of the erased subjects."""
        return [command.read(Erase).digest for command in self._of(Erase.VERB)]

    def label_commands(self, applied_seq: int) -> list[LabelCommand]:
        """Returns the commands about labels up to this number."""
        return [each.read(LabelCommand) for each in self._of(LabelCommand.VERB) if each.seq <= applied_seq]

    def _of(self, verb: str) -> list[Command]:
        """Returns the commands of a verb that were not refused."""
        taken = [entry for entry in self.entries if entry.outcome is None or entry.outcome.state != "refused"]
        return [command for command, _ in taken if command.verb == verb]


class HeldCommands:
    """Belongs to the learner's thread. `last` is the last command that was read, of whatever verb.

    `last_kept` is the number of the last one that is kept, and `num_passing` how many others are held. `untold` are the
    numbers of the commands of which the store was not told what became. `clean_since` is the version before which every
    version holds something that was erased; 0 before an erasure is published.
    """

    def __init__(self, state: CommandsState | None = None) -> None:
        self._kept: dict[int, CommandEntry] = {}
        self._kept_seqs: list[int] = []  # in their order
        self._passing: dict[int, CommandEntry] = {}
        self._applied = set[int]()  # those that no version is known to have
        self.untold = set[int]()
        self.last_kept = 0
        self.num_passing = 0
        self.clean_since = 0
        self.last = state.last if state else None
        for command, outcome in state.entries if state else ():
            self.add(command)
            if outcome is not None:
                self.note(outcome)

    def add(self, command: Command) -> None:
        """Adds a command that was read and has no effect yet."""
        if command.is_kept:
            self._kept[command.seq] = CommandEntry(command)
            insort(self._kept_seqs, command.seq)
            self.last_kept = self._kept_seqs[-1]
        else:
            self._passing[command.seq] = CommandEntry(command)
            self.num_passing = len(self._passing)
        self.untold.add(command.seq)

    def note(self, outcome: CommandOutcome) -> None:
        """Takes note of what became of a command."""
        seq = outcome.seq
        held = self._kept if seq in self._kept else self._passing
        held[seq] = CommandEntry(held[seq].command, outcome)
        self.untold.add(seq)
        if outcome.state == "applied":
            self._applied.add(seq)
        else:
            self._applied.discard(seq)
        if held[seq].command.verb == Erase.VERB:
            self.clean_since = max(self.clean_since, outcome.version)

    def drop(self, seq: int) -> None:
        """Forgets a command that is not kept."""
        del self._passing[seq]
        self.num_passing = len(self._passing)

    def next_after(self, applied_seq: int) -> Command | None:
        """Returns the first command above this number that is kept; None if there is none."""
        place = bisect_right(self._kept_seqs, applied_seq)
        return self._kept[self._kept_seqs[place]].command if place < len(self._kept_seqs) else None

    def open(self) -> list[Command]:
        """Returns the commands that are followed once, and are open."""
        return [command for command, outcome in self._passing.values() if outcome is None]

    def last_of(self, verb: str) -> int:
        """Returns the number of the last of the commands of a verb that are followed once; 0 for none."""
        return max((command.seq for command, _ in self._passing.values() if command.verb == verb), default=0)

    def mark_published(self, version: int, applied_seq: int) -> None:
        """Notes that `version` is the first one with the commands up to this number, as its manifest says."""
        for seq in sorted(self._applied):
            if seq <= applied_seq:
                outcome = self._kept[seq].outcome
                assert outcome is not None, "it was applied"
                self.note(msgspec.structs.replace(outcome, state="published", version=version))

    def published(self) -> list[CommandOutcome]:
        """Returns what became of commands that are published, and not purged, as far as the store was told."""
        outcomes = [outcome for _, outcome in self._kept.values() if outcome is not None]
        return [each for each in outcomes if each.state == "published" and each.seq not in self.untold]

    def take_back(self, applied_seq: int) -> bool:
        """Makes the commands above this number open again: the learner went back. Whether an erasure is among them."""
        taken = self._kept_seqs[bisect_right(self._kept_seqs, applied_seq) :]
        for seq in taken:
            self._kept[seq] = CommandEntry(self._kept[seq].command)
        self._applied.difference_update(taken)
        self.untold.update(taken)
        left = [entry for entry in self._kept.values() if entry.command.verb == Erase.VERB]
        self.clean_since = max((entry.outcome.version for entry in left if entry.outcome), default=0)
        return any(self._kept[seq].command.verb == Erase.VERB for seq in taken)

    def of(self, seq: int) -> CommandEntry:
        """Returns a command with what became of it. Raises KeyError."""
        return self._kept[seq] if seq in self._kept else self._passing[seq]

    def label_commands(self, applied_seq: int) -> list[LabelCommand]:
        """Returns the commands about labels up to this number."""
        return self.export().label_commands(applied_seq)

    def export(self) -> CommandsState:
        return CommandsState(entries=list(self), last=self.last)

    def __iter__(self) -> Iterator[CommandEntry]:
        return iter([*self._kept.values(), *self._passing.values()])

    def __len__(self) -> int:
        return len(self._kept) + len(self._passing)
