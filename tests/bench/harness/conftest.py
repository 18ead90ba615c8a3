"""Fixtures of the tests that call cases."""

import pytest

from evals.results import conditions


@pytest.fixture(autouse=True)
def unobserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips the pauses before and after a call, in which the load of other processes is observed."""
    monkeypatch.setattr(conditions, "PAUSE_S", 0.0)
