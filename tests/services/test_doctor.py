"""Tests the doctor: it finds each problem and names the remedy."""

import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from kernels import native
from services import doctor
from services.settings import Settings, replaced
from services.tune import table as tune_table
from services.tune.layout import Layout, MeasuredLayout
from tests.services.distributions import install
from wire.config import StoreConfig

NOBODY = "127.0.0.1:1"


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


def test_a_redis_server_that_does_not_answer_is_found() -> None:
    check = doctor.check_redis(replaced(Settings(), {"store.url": f"redis://me:hush@{NOBODY}"}))
    assert (check.state, NOBODY in check.found) == ("fail", True)
    assert "hush" not in check.found + check.fix


@pytest.mark.live
def test_a_redis_server_is_fit_where_it_has_an_append_only_file(store_config: StoreConfig, setting: Any) -> None:
    settings = replaced(Settings(), {"store.url": store_config.url})
    check = doctor.check_redis(settings)
    assert (check.state, check.fix) == (
        "warn",
        "A power cut may take what was published. Set appendonly to yes on the Redis server",
    )
    setting("appendonly", "yes")
    assert "appendonly" not in doctor.check_redis(settings).fix


def test_a_signing_key_is_asked_for_where_redis_is_not_ours() -> None:
    remote = replaced(Settings(), {"store.url": f"redis://{NOBODY}"})
    assert doctor.check_key(remote).state == "fail"
    assert "LIFELONG_SIGNING_KEY" in doctor.check_key(remote).fix
    assert doctor.check_key(replaced(remote, {"signing_key": SecretStr("k" * 20)})).state == "ok"


def test_half_a_kafka_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KAFKA_HOME", str(tmp_path))
    assert doctor.check_broker(Settings()).state == "fail"


def test_missing_native_kernels_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "why_not", lambda way=None: ["the native kernels could not be built"])
    check = doctor.check_kernels()
    assert (check.state, "gcc" in check.fix) == ("warn", True)
    assert "could not be built" in check.found


def test_an_unknown_encoder_is_found() -> None:
    check = doctor.check_encoder("no/such-encoder")
    assert (check.state, "encoder" in check.fix) == ("fail", True)


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


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_found(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert doctor.check_disk(tmp_path / "state").state == "fail"
