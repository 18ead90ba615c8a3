"""Tests that the reports of earlier programs can be read."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.wire.stored_samples import SAMPLES
from wire.records import (
    ControllerReport,
    LearnerReport,
    Promise,
)

GOLDEN = Path(__file__).parents[1] / "golden"

BEFORE_KEYS: dict[str, Any] = {"keys": ()}
BEFORE_READ: dict[str, Any] = {"read_ms": 0}
BEFORE_CONFUSIONS: dict[str, Any] = {"confusions": (), **BEFORE_KEYS, **BEFORE_READ}
BEFORE_LABEL_TO_LIVE: dict[str, Any] = {
    "label_to_live_counts": (),
    "label_to_live_sum_ms": 0.0,
    "swap_skews_ms": (),
    "arm_accuracies": (),
    **BEFORE_KEYS,
}


def test_a_controller_report_from_before_waits_for_is_read() -> None:
    path = GOLDEN / "controller_report.v1.before_waits.json"
    assert msgspec.json.decode(path.read_bytes(), type=ControllerReport).waits_for == ""


def test_a_controller_report_from_before_label_rates_is_read() -> None:
    old = msgspec.json.decode(
        (GOLDEN / "controller_report.v1.before_label_rates.json").read_bytes(), type=ControllerReport
    )
    assert old == msgspec.structs.replace(SAMPLES["controller_report.v1"], label_rates=(), **BEFORE_LABEL_TO_LIVE)


def test_a_controller_report_from_before_label_to_live_is_read() -> None:
    path = GOLDEN / "controller_report.v1.before_label_to_live.json"
    old = msgspec.json.decode(path.read_bytes(), type=ControllerReport)
    assert old == msgspec.structs.replace(SAMPLES["controller_report.v1"], **BEFORE_LABEL_TO_LIVE)


@pytest.mark.parametrize("name", ["learner_report", "controller_report"])
def test_reports_from_before_the_ids_of_keys_are_read(name: str) -> None:
    now = SAMPLES[f"{name}.v1"]
    old = msgspec.json.decode((GOLDEN / f"{name}.v1.before_keys.json").read_bytes(), type=type(now))
    assert old == msgspec.structs.replace(now, **BEFORE_KEYS, **(BEFORE_READ if name == "learner_report" else {}))


def test_a_learner_report_from_before_read_ms_is_read() -> None:
    old = msgspec.json.decode((GOLDEN / "learner_report.v1.before_read.json").read_bytes(), type=LearnerReport)
    assert old == msgspec.structs.replace(SAMPLES["learner_report.v1"], **BEFORE_READ)


def test_a_learner_report_from_before_confusions_is_read() -> None:
    old = msgspec.json.decode((GOLDEN / "learner_report.v1.before_confusions.json").read_bytes(), type=LearnerReport)
    assert old == msgspec.structs.replace(SAMPLES["learner_report.v1"], **BEFORE_CONFUSIONS)


def test_a_learner_report_from_before_the_durable_version_is_read() -> None:
    old = msgspec.json.decode((GOLDEN / "learner_report.v1.before_durable.json").read_bytes(), type=LearnerReport)
    assert old == msgspec.structs.replace(SAMPLES["learner_report.v1"], durable_version=0, **BEFORE_CONFUSIONS)


def test_a_promise_is_kept_below_a_ceiling_and_above_any_other_limit() -> None:
    limits = {
        True: Promise(name="p99_ms", limit=1.0, is_ceiling=True),
        False: Promise(name="rate", limit=1.0, is_ceiling=False),
    }
    for is_ceiling, promise in limits.items():
        assert promise.is_met is None
        assert msgspec.structs.replace(promise, value=0.5).is_met is is_ceiling
        assert msgspec.structs.replace(promise, value=1.5).is_met is not is_ceiling
        assert msgspec.structs.replace(promise, value=1.0).is_met is True
