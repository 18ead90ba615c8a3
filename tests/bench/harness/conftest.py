"""Fixtures of the tests that call cases."""

import pytest

from evals.results import conditions


@pytest.fixture(autouse=True)
def unobserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are observed for no time before and after a call."""
    monkeypatch.setattr(conditions, "PAUSE_S", 0.0)
