"""`lifelong audit`."""

from services.commands.status import render_action
from wire.records import AdminAction


def test_a_line_says_who_did_what_and_what_became_of_it() -> None:
    record = AdminAction(action="promote", outcome="failed", detail="no candidate", client="127.0.0.1", time_ms=7)
    assert render_action(record).endswith("127.0.0.1        promote failed: no candidate")
    assert render_action(AdminAction(action="pause", outcome="done")).endswith("pause done")
