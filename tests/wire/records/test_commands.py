"""The bodies of commands: which subjects a log erases."""

from wire.records import Command, Erase, LabelCommand


def test_only_erasures_have_digests() -> None:
    bodies = [Erase(digest="ada"), LabelCommand(number=1, action="add", labels=("refund",)), Erase(digest="bob")]
    commands = [Command.of(body, seq, source="", time_ms=1) for seq, body in enumerate(bodies, 1)]
    assert list(Erase.digests(commands)) == ["ada", "bob"]
    assert list(Erase.digests([])) == []
