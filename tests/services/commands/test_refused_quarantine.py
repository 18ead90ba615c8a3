"""The commands about labels in quarantine."""

from services.commands.refused import _label_line
from services.refused import quarantine_id
from tests.services.command_line import lifelong
from wire.records import Quarantined

LABEL = Quarantined(reason="flip", event_id="e-1", label="refund", source="desk", time_ms=7)


def test_a_line_says_who_said_what_of_which_event() -> None:
    assert _label_line(LABEL).endswith(f"  {quarantine_id(LABEL)}  flip        e-1  'desk' said 'refund'")


def test_a_line_tells_the_text_and_the_source_of_the_event_where_they_are_known() -> None:
    known = Quarantined(
        reason="flip",
        event_id="e-1",
        label="refund",
        source="desk",
        time_ms=7,
        text="my parcel",
        answered="delivery",
        event_source="crm",
    )
    assert "e-1 of 'crm'" in _label_line(known)
    assert _label_line(known).endswith("of 'my parcel', answered 'delivery'")


def test_everything_is_released_only_if_that_is_said() -> None:
    done = lifelong("quarantine", "release")
    assert (done.returncode, "or --all" in done.stderr) == (2, True), done.stderr


def test_an_id_writes_nothing_but_itself_on_the_terminal() -> None:
    """N20: an id is what its client has chosen, up to 1 KiB of it."""
    spoofed = Quarantined(reason="missing", event_id="e\x1b[2K\r\x1b]0;owned\x07\nall is well", label="a", time_ms=1)
    line = _label_line(spoofed)
    assert line.isprintable()
    assert r"e\u001b[2K\r\u001b]0;owned\u0007\nall is well" in line
