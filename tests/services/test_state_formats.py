"""Tests which findings end a migration."""

from services.state_formats import FormatFinding, Readability, readable


def test_only_what_is_needed_and_unreadable_is_fatal() -> None:
    for verdict in Readability:
        for is_needed in (False, True):
            finding = FormatFinding(name="n", format="f", verdict=verdict, is_needed=is_needed)
            assert finding.is_fatal == (is_needed and verdict is Readability.UNREADABLE)
    assert not readable("plan", "rollout plan").is_fatal
