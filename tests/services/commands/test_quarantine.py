"""The commands about labels in quarantine."""

from services.commands.quarantine import _label_line
from tests.services.command_line import lifelong
from wire.records import Quarantined

LABEL = Quarantined(reason="flip", event_id="e-1", label="refund", source="desk", time_ms=7)


def test_a_line_says_who_said_what_of_which_event() -> None:
    assert _label_line(LABEL).endswith("flip        e-1  'desk' said 'refund'")


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
