"""Checks what is said of the profiles."""

import pytest

from services.profiles.explain import arithmetic_lines, profile_values, render_profiles
from services.profiles.profile import PROFILES


def test_a_profile_says_what_it_fixes() -> None:
    shown = render_profiles(["nano"], explains=False)
    assert "6.2 M stored parameters, 6.6 MB as w8c" in shown
    assert "11.0 M stored parameters, 11.3 MB as w8c" in render_profiles(["static"], explains=False)
    assert "serving.promises.answers_per_s = 30.0" in shown
    assert "billion" not in shown


def test_the_arithmetic_has_a_column_for_each_profile() -> None:
    lines = list(arithmetic_lines())
    assert render_profiles(["base"], explains=True).endswith("\n".join(lines))
    (shared,) = [line for line in lines if "shared" in line]
    assert [part for part in shared.split() if part.startswith("(-")] == ["(-57.9", "(-59.7", "(-58.9"]


def test_pro_fits_one_machine_alone() -> None:
    verdicts = [line.split()[1:] for line in arithmetic_lines() if line.startswith("  fits")]
    assert verdicts == [["yes", "yes", "no"]] * 3 + [["yes", "yes", "yes"]]


@pytest.mark.parametrize("name", PROFILES)
def test_a_summary_has_the_settings(name: str) -> None:
    assert profile_values(PROFILES[name])["settings"] == dict(PROFILES[name].settings)
