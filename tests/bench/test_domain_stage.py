"""The rows of the domain stage, from the figures of a demo."""

from types import SimpleNamespace
from typing import Any

import pytest

from bench import domain_stage
from bench.harness.case import Run
from bench.harness.cases import CASES
from evals.results.row import NoResult, Row

DOMAIN: dict[str, Any] = {
    "decision": "published",
    "is_stable": True,
    "accuracy": 70.0,
    "accuracy_frozen": 64.5,
    "gain": 5.5,
    "forgotten": 0.1,
    "latency_p99": 24.0,
    "latency_p99_before": 20.0,
    "took_s": 300.0,
}


def rows(monkeypatch: pytest.MonkeyPatch, **changed: Any) -> dict[str, Row]:
    asked: list[tuple[str, ...]] = []

    def run_demo(*arguments: str, limit_s: float) -> SimpleNamespace:
        asked.append(arguments)
        return SimpleNamespace(figures={"domain": DOMAIN | changed, "lost": 0})

    monkeypatch.setattr(domain_stage, "run_demo", run_demo)
    monkeypatch.setattr(domain_stage, "clinc150", lambda: None)
    monkeypatch.setattr(domain_stage, "text_set", lambda name, data: None)
    (case,) = (case for case in CASES if case.name == "domain")
    run = Run(case=case, say=lambda line: None)
    measured = {row.name: row for row in domain_stage.measure(run)}
    assert asked == [("--data", "clinc150", "--pretrain")]
    return measured


def value(row: Row) -> float | None:
    (call,) = row.calls
    return call.value


def test_gain_loss_and_latency_are_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    found = rows(monkeypatch)
    assert {name: value(row) for name, row in found.items()} == {
        "domain.gain": 5.5,
        "domain.forgotten": 0.1,
        "domain.latency": 1.2,
        "domain.seconds": 300.0,
        "domain.lost": 0,
    }
    assert "not stable" not in found["domain.gain"].calls[0].note


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    found = rows(monkeypatch, latency_p99_before=None, is_stable=False)
    assert value(found["domain.latency"]) is None
    assert "not stable at the end" in found["domain.gain"].calls[0].note
    with pytest.raises(NoResult, match="has not decided"):
        rows(monkeypatch, decision=None)
