"""The settings of the second service apply to its processes alone, and the row's note has every round."""

from functools import partial

import pytest

from bench.harness.service import effective_settings
from bench.setting_costs import AT_LEAST_ONCE, EXACTLY_ONCE_GOAL, alternate, row
from evals.results.row import Goal


def test_settings_apply_to_one_service_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFELONG_METRICS__PORT", "7")
    monkeypatch.delenv("LIFELONG_SERVING__EXACTLY_ONCE", raising=False)
    one = effective_settings({"serving.exactly_once": True, "metrics.port": 9})
    assert (one.serving.exactly_once, one.metrics.port) == (True, 9)
    other = effective_settings({})
    assert (other.serving.exactly_once, other.metrics.port) == (False, 7)


def test_the_side_that_begins_changes_from_round_to_round() -> None:
    said: list[str] = []

    def speed(name: str) -> float:
        said.append(name)
        return float(len(said))

    assert alternate(partial(speed, "plain"), partial(speed, "other"), 3) == ([1.0, 4.0, 5.0], [2.0, 3.0, 6.0])
    assert said == ["plain", "other", "other", "plain", "plain", "other"]


@pytest.mark.parametrize(("others", "is_met"), [([700.0, 810.0, 820.0], True), ([700.0, 710.0, 990.0], False)])
def test_the_medians_are_compared(others: list[float], is_met: bool) -> None:
    found = row("name", [900.0, 1000.0, 1100.0], others, goal=EXACTLY_ONCE_GOAL, baseline=AT_LEAST_ONCE, note="a note")
    (call,) = found.calls
    assert call.goal == Goal(">=", 0.8, of_peer=True)
    assert found.met is is_met
    assert call.note.startswith("a note; 700 against 900; ")
