"""`lifelong profile`."""

import json

from services.profiles.explain import arithmetic_lines
from tests.services.command_line import lifelong


def test_profiles_are_shown_as_text_and_as_json() -> None:
    explained = lifelong("profile", "base", "--explain")
    assert explained.returncode == 0, explained.stderr
    assert "serving.promises.p99_ms = 150.0" in explained.stdout and "parameters, dense (G)" in explained.stdout
    shown = json.loads(lifelong("profile", "--json").stdout)
    assert [profile["name"] for profile in shown] == ["nano", "base", "pro", "static"]
    assert not any("at_full_size" in profile for profile in shown)


def test_the_arithmetic_is_the_same_as_text_and_as_json() -> None:
    (shown,) = json.loads(lifelong("profile", "pro", "--explain", "--json").stdout)
    found = shown["at_full_size"]
    row = next(line for line in arithmetic_lines() if line.startswith("parameters, dense (G)"))
    assert row.split()[-1] == f"{found['parameters'] / 1e9:.2f}"
    assert found["bytes"]["int4"] < found["bytes"]["int8"] < found["bytes"]["fp16"]
    assert all(machine["prompt_ms"]["16"] < machine["prompt_ms"]["512"] for machine in found["machines"].values())


def test_a_profile_that_is_not_there_is_named_with_those_that_are() -> None:
    done = lifelong("profile", "huge")
    assert done.returncode == 2
    assert "the profiles are nano, base, pro, static" in done.stderr
