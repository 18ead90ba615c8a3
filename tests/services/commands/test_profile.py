"""`lifelong profile`."""

import json

from tests.services.command_line import lifelong


def test_profiles_are_shown_as_text_and_as_json() -> None:
    explained = lifelong("profile", "base", "--explain")
    assert explained.returncode == 0, explained.stderr
    assert "serving.level.p99_ms = 150.0" in explained.stdout and "parameters, dense (G)" in explained.stdout
    shown = json.loads(lifelong("profile", "--json").stdout)
    assert [profile["name"] for profile in shown] == ["nano", "base", "pro"]


def test_a_profile_that_is_not_there_is_named_with_those_that_are() -> None:
    done = lifelong("profile", "huge")
    assert done.returncode == 2
    assert "there are nano, base, pro" in done.stderr
