"""Tests of the commands that the learner holds, and of their outcomes."""

import msgspec

from learner.commands import CommandsState, HeldCommands
from wire.records import Command, CommandBody, CommandOutcome, Erase, LabelCommand, Repair


def command(seq: int, body: CommandBody) -> Command:
    return Command.of(body, seq, source="", time_ms=1)


def applied(*bodies: CommandBody) -> HeldCommands:
    """Holds commands with these bodies; the kept ones were applied."""
    held = HeldCommands()
    for seq, body in enumerate(bodies, 1):
        held.add(command(seq, body))
        if body.IS_KEPT:
            held.note(CommandOutcome(seq=seq, time_ms=1, state="applied", numbers={"replay": 2}))
    return held


def versions(held: HeldCommands) -> list[int | None]:
    return [entry.outcome.version if entry.outcome else None for entry in held]


def test_a_version_has_the_commands_up_to_the_number_in_its_manifest() -> None:
    held = applied(Erase(digest="anna"), Erase(digest="bert"))
    assert held.clean_since == 0
    held.mark_published(7, 1)
    assert versions(held) == [7, 0]
    held.mark_published(9, 2)
    assert versions(held) == [7, 9]
    # A client that waits for a command reads its `published` outcome before it is purged.
    held.unreported.discard(2)
    assert held.clean_since == 9 and [outcome.seq for outcome in held.published_outcomes()] == [2]


def test_a_rollback_reopens_the_commands_after_the_version() -> None:
    held = applied(Erase(digest="anna"), LabelCommand(number=1, action="add", labels=("bill",)))
    held.mark_published(7, 2)
    assert held.next_after(2) is None
    held.unreported.clear()
    assert not held.reopen(1)
    assert versions(held) == [7, None] and held.unreported == {2}
    assert held.next_after(1) == held.entry(2).command
    held.mark_published(8, 2)
    assert versions(held) == [7, None], "the second command is not applied again yet"
    assert held.reopen(0) and held.next_after(0) == held.entry(1).command


def test_only_one_time_commands_are_open() -> None:
    held = applied(Erase(digest="anna"), Repair(digests=()), Repair(digests=()))
    assert [each.seq for each in held.open_commands()] == [2, 3] and held.last_one_time("repair") == 3
    held.note(CommandOutcome(seq=2, time_ms=1, state="done"))
    assert [each.seq for each in held.open_commands()] == [3]
    held.drop(2)
    assert len(held) == 2 and held.next_after(1) is None


def test_an_exported_state_is_restored() -> None:
    held = applied(Erase(digest="anna"), LabelCommand(number=1, action="add", labels=("bill",)), Repair(digests=()))
    held.mark_published(7, 1)
    held.last = command(4, Repair(digests=("a",)))
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(held.export()), type=CommandsState)
    again = HeldCommands(state)
    assert list(again) == list(held) and again.last == held.last
    assert state.digests == ["anna"] and [each.number for each in again.label_commands(2)] == [1]
    assert again.label_commands(1) == []
    again.mark_published(8, 2)
    assert versions(again) == [7, 8, None]


def test_a_command_that_was_refused_has_no_effect() -> None:
    held = applied(Erase(digest="anna"))
    held.note(CommandOutcome(seq=1, time_ms=1, state="refused", reasons=("it cannot be read",)))
    assert held.export().digests == []
