"""Checks the figures that row E11 reads from runs of the demo."""

from typing import Any

import pytest

from bench.demo import DemoRun
from bench.techniques import profiles as under_test
from bench.techniques.profiles import base_under_load, change_under_load
from evals.results.row import NoResult


def figures(encoders: list[int], **wrong: int) -> dict[str, Any]:
    counts = {"lost": 0, "duplicates": 0, "mixed": 0, "gone": 0} | wrong
    recomputed = {"encoders": encoders, "mixed": counts["mixed"], "gone": counts["gone"]}
    change = {"outcome": "refused", "recomputed": recomputed}
    return {"lost": counts["lost"], "duplicates": counts["duplicates"], "latency_ms": {"p99": 90}, "change": change}


def play(monkeypatch: pytest.MonkeyPatch, found: dict[str, Any]) -> list[str]:
    """Replaces the demo by one with these figures; returns the list that will hold its arguments."""
    asked: list[str] = []

    def run_demo(*arguments: str) -> DemoRun:
        asked.extend(arguments)
        return DemoRun(found, first_answer_s=1.0, peak_bytes=1, took_s=1.0)

    monkeypatch.setattr(under_test, "run_demo", run_demo)
    return asked


@pytest.mark.parametrize("wrong", ["lost", "duplicates", "mixed", "gone"])
def test_every_kind_of_error_is_counted(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    asked = play(monkeypatch, figures([3, 4], **{wrong: 2}))
    assert change_under_load(seed=5) == 2
    assert asked == ["--profile", "base", "--change-to", "nano", "--seed", "5"]


def test_a_steady_load_has_a_latency_and_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = play(monkeypatch, {**figures([3]), "precisions": {"int4": 99, "int8": 1}})
    assert base_under_load(seed=5) == (90, {"int4": 99, "int8": 1})
    assert asked == ["--profile", "base", "--rate", "72", "--seed", "5"]


def test_a_profile_that_did_not_change_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, figures([7]))
    with pytest.raises(NoResult, match="refused"):
        change_under_load(seed=0)
