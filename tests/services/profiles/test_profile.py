"""Checks that profiles are frozen, and how they fill in settings."""

from dataclasses import replace
from pathlib import Path

import pytest

from lifelong.compress.cost import num_bytes, parameters
from model.config import MINILM_L6
from services.profiles.profile import (
    NANO,
    PROFILES,
    STATIC,
    after_restart,
    changed_profile,
    fill_in_profile,
    restart_lines,
)
from services.settings import load

FROZEN = {
    "nano": "c6f1abcb6fd3",
    "base": "a9ac8bde5c07",
    "pro": "a9ac8bde5c07",
    "static": "bd476e4ed1e9",
}
"""The first digits of the hash of each model. Change them with a release alone, and say why."""


def test_a_profile_fills_in_what_nothing_else_sets() -> None:
    environ = {"LIFELONG_PROFILE": "base", "LIFELONG_SERVING__PROMISES": '{"p99_ms": 90}'}
    loaded = fill_in_profile(load(file=None, environ=environ))
    serving = loaded.settings.serving
    assert (serving.precision.mode, serving.promises) == ("int4", {"p99_ms": 90.0, "accuracy": 0.88})
    assert loaded.origins["serving.precision.mode"] == "follows profile base"
    assert serving.precision.brown_out_load == 0.5


def test_without_a_profile_nothing_is_promised() -> None:
    loaded = load(file=None, environ={})
    assert fill_in_profile(loaded) == loaded
    assert loaded.settings.serving.promises == {}


@pytest.mark.parametrize("name", PROFILES)
def test_what_a_profile_fixes_is_valid(name: str, tmp_path: Path) -> None:
    by_profile = fill_in_profile(load(file=None, environ={}, flags={"profile": name})).settings
    assert load(file=None, environ={}, flags={"profile": name, **PROFILES[name].settings}).settings == by_profile


@pytest.mark.parametrize("name", PROFILES)
def test_the_model_of_a_profile_is_frozen(name: str) -> None:
    assert PROFILES[name].config.spec_hash("").startswith(FROZEN[name])


def test_nano_is_less_than_half_a_byte_for_each_parameter_that_it_replaces() -> None:
    replaced = parameters(PROFILES["base"].config).total
    assert num_bytes(NANO.config, NANO.scheme) <= 0.5 * replaced
    assert 1 - parameters(NANO.config).total / replaced == pytest.approx(0.726, abs=0.002)


def test_a_restart_changes_what_the_profiles_set_and_nobody_else() -> None:
    flags = {"profile": "base", "serving.max_queue_items": 300}
    settings = fill_in_profile(load(file=None, environ={}, flags=flags)).settings
    assert after_restart(settings, NANO) == {
        "serving.precision.mode": ("int4", "int8"),
        "serving.precision.max_accuracy_loss": (0.02, 0.005),
        "serving.promises.p99_ms": (150.0, None),
        "serving.promises.answers_per_s": (None, 30.0),
        "serving.promises.accuracy": (0.88, None),
        "serving.promises.model_mb": (None, 11.3),
    }
    lines = restart_lines(settings, NANO)
    assert "still those of profile base" in lines[0] and "serving.precision.mode int4 -> int8" in lines[1]
    assert after_restart(settings, PROFILES["base"]) == {}


def test_a_profile_changes_with_an_encoder_of_another_shape_where_there_is_one() -> None:
    settings = load(file=None, environ={}, flags={"profile": "base"}).settings
    nano = replace(NANO.config, head_features=4_096, label_capacity=8).canonical_json()
    assert changed_profile(settings, nano) is NANO
    assert changed_profile(settings, replace(STATIC.config, pairs=7).canonical_json()) is STATIC
    pro = load(file=None, environ={}, flags={"profile": "pro"}).settings
    assert changed_profile(pro, nano) is NANO
    for none, config in (
        (settings, MINILM_L6.canonical_json()),
        (pro, MINILM_L6.canonical_json()),
        (settings, ""),
        (load(file=None, environ={}).settings, nano),
    ):
        assert changed_profile(none, config) is None
