"""`lifelong deadletters`."""

from services.commands.refused import as_builtins
from wire.records import DeadLetter


def test_a_payload_that_is_no_text_is_shown() -> None:
    letter = DeadLetter(reason="undecodable", detail="no JSON", topic="t", partition=0, offset=7, payload=b"a\xff")
    shown = as_builtins(letter)
    assert (shown["id"], shown["payload"]) == ("t/0/7", "a\\xff")
