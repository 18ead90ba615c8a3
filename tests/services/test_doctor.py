"""Tests that the doctor finds each problem of a machine and names the fix."""

import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kernels import native
from services import doctor
from services.settings import Settings
from services.tune import table as tune_table
from services.tune.measure import Layout, MeasuredLayout
from tests.required import impossible
from tests.services.distributions import install
from tests.services.members.small import CONFIG, write_small


def test_this_machine_can_run_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_HOME", raising=False)
    checks = {check.name: check for check in doctor.examine(Settings(state_dir=tmp_path))}
    assert {"python", "packages", "torch", "kernels", "encoder", "layout", "ray", "broker", "redis"} <= set(checks)
    assert {"disk", "clock", "port"} <= set(checks)
    assert [check for check in checks.values() if check.state == "fail"] == []
    assert all(check.fix for check in checks.values() if check.state != "ok")


def test_a_distribution_with_a_package_of_our_name_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_packages().state == "ok"
    install(tmp_path, "openai-evals", "evals")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    check = doctor.check_packages()
    assert (check.state, "openai-evals" in check.found, "pip uninstall openai-evals" in check.fix) == (
        "warn",
        True,
        True,
    )


def test_missing_native_kernels_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "why_unavailable", lambda way=None: ["the native kernels could not be built"])
    check = doctor.check_kernels()
    assert (check.state, "gcc" in check.fix) == ("warn", True)
    assert "could not be built" in check.found


def test_an_unknown_encoder_is_found() -> None:
    check = doctor.check_encoder("no/such-encoder")
    assert (check.state, "encoder" in check.fix) == ("fail", True)


def test_the_implementation_that_answers_is_named_with_the_reason_against_a_faster_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (check,) = doctor.check_forward("minilm-l6")
    assert (check.state, check.found) == ("ok", f"native, {native.fastest_isa()}")
    odd = str(write_small(tmp_path / "odd", replace(CONFIG, d_model=40, n_heads=2)))
    (check,) = doctor.check_forward(odd)
    assert check.state == "warn" and check.found.startswith("library, about half as fast as native: a token is 40 wide")
    assert "encoder" in check.fix
    monkeypatch.setattr(native, "why_unavailable", lambda way=None: ["the native kernels could not be built"])
    (check,) = doctor.check_forward("minilm-l6")
    assert (check.state, "gcc" in check.fix) == ("warn", True)
    assert list(doctor.check_forward("no/such-encoder")) == []


def test_a_taken_port_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert doctor.check_port("127.0.0.1", taken.getsockname()[1]).state == "warn"


def test_the_table_of_layouts_is_shown_or_how_to_make_it(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    assert "lifelong tune" in doctor.check_layout(settings).fix
    tune_table.write(
        [MeasuredLayout(Layout(1, 2), {1: 10.0, 64: 20.0}), MeasuredLayout(Layout(2, 1), {1: 30.0, 64: 60.0})], tmp_path
    )
    check = doctor.check_layout(settings)
    rows = [line.split() for line in check.found.splitlines()[1:]]
    assert check.state == "ok"
    assert rows == [["1", "x", "2", "10", "20"], ["2", "x", "1", "30", "60", "best"]]


def test_a_folder_that_cannot_be_written_is_found(tmp_path: Path) -> None:
    if os.getuid() == 0:
        impossible("root may write everywhere")
    tmp_path.chmod(0o500)
    assert doctor.check_disk(tmp_path / "state").state == "fail"
