"""The settings of the second service are those of its processes alone, and the row has every round."""

import os

import pytest

from bench.exactly_once import BESIDE, GOAL
from bench.turns import changed, row
from evals.results.row import Goal


def test_settings_are_variables_while_the_block_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFELONG_METRICS__PORT", "7")
    monkeypatch.delenv("LIFELONG_SERVING__EXACTLY_ONCE", raising=False)
    with changed({"serving.exactly_once": True, "metrics.port": 9}):
        assert os.environ["LIFELONG_SERVING__EXACTLY_ONCE"] == "True"
        assert os.environ["LIFELONG_METRICS__PORT"] == "9"
    assert "LIFELONG_SERVING__EXACTLY_ONCE" not in os.environ
    assert os.environ["LIFELONG_METRICS__PORT"] == "7"


@pytest.mark.parametrize(("others", "is_met"), [([700.0, 810.0, 820.0], True), ([700.0, 710.0, 990.0], False)])
def test_the_medians_are_compared(others: list[float], is_met: bool) -> None:
    found = row("name", [900.0, 1000.0, 1100.0], others, goal=GOAL, beside=BESIDE, note="so much")
    (call,) = found.calls
    assert call.goal == Goal(">=", 0.8, of_peer=True)
    assert found.met is is_met
    assert call.note.startswith("so much; 700 beside 900; ")
