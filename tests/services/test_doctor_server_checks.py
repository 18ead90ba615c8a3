"""Tests that the doctor finds each problem of the servers and names the fix."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]
from pydantic import SecretStr

from services import doctor
from services.local.kafka import LocalBroker
from services.settings import Settings, replaced
from tests.secure_brokers import SecureBroker
from tests.stores import KEYS
from tests.waiting import eventually
from wire.config import BusConfig, StoreConfig
from wire.keyring import new_ring
from wire.records import Feedback, RolloutPlan, topic_name
from wire.store import Store

NOBODY = "127.0.0.1:1"
RING = new_ring()


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
        "A power failure may lose publications. Set appendonly to yes on the Redis server",
    )
    setting("appendonly", "yes")
    assert "appendonly" not in doctor.check_redis(settings).fix


def test_a_signing_key_is_asked_for_where_redis_is_not_ours() -> None:
    remote = replaced(Settings(), {"store.url": f"redis://{NOBODY}"})
    assert doctor.check_key(remote).state == "fail"
    assert "LIFELONG_SIGNING_KEY" in doctor.check_key(remote).fix
    assert doctor.check_key(replaced(remote, {"signing_key": SecretStr(RING.text)})).state == "ok"
    shared = doctor.check_key(replaced(remote, {"signing_key": SecretStr("k" * 20)}))
    assert (shared.state, "lifelong signing-keys new" in shared.fix) == ("warn", True)


def test_keys_that_do_not_verify_what_is_stored_are_named(store: Store, store_config: StoreConfig) -> None:
    store.plans.write(RolloutPlan(revision=1, salt="", arms=()))
    changes = {"store.url": store_config.url, "store.prefix": store_config.prefix}
    ours = replaced(Settings(), {**changes, "signing_key": SecretStr(KEYS.text)})
    assert doctor.check_key(ours).state == "warn"  # for a shared secret
    wrong = doctor.check_key(replaced(ours, {"signing_key": SecretStr(RING.text)}))
    assert (wrong.state, wrong.fix) == ("fail", "Give this program the keys of the learner")
    assert "plan was signed with a shared secret, and there is none among our keys" in wrong.found
    assert f"{RING.keys[0].id} signs" in wrong.found


def test_half_a_kafka_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KAFKA_HOME", str(tmp_path))
    assert doctor.check_broker(Settings()).state == "fail"


def test_a_broker_that_does_not_answer_is_to_be_started() -> None:
    nobody = BusConfig(bootstrap_servers=NOBODY, client={"request_timeout_ms": 500})
    check = doctor.check_broker(Settings(bus=nobody))
    assert (check.state, check.fix) == ("fail", "Start the broker, or correct LIFELONG_BUS__BOOTSTRAP_SERVERS")
    topics = doctor.check_topics(nobody)
    assert (topics.state, topics.fix) == ("warn", check.fix)  # programs wait for it


@pytest.mark.live
@pytest.mark.parametrize(
    ("change", "fix"),
    [
        ({"sasl_password": SecretStr("not hers")}, "correct bus.sasl_username, bus.sasl_password"),
        ({"ssl_cafile": None}, "correct bus.ssl_cafile"),
    ],
    ids=["password", "certificate"],
)
def test_a_broker_that_refuses_us_is_no_broker_to_start(secure: SecureBroker, change: dict[str, Any], fix: str) -> None:
    """The error itself names the fix, so the check adds none."""
    stranger = replace(secure.config, **change).with_client(request_timeout_ms=3_000)
    for check in (doctor.check_broker(Settings(bus=stranger)), doctor.check_topics(stranger)):
        assert (check.state, check.fix, fix in check.found) == ("fail", "", True)


@pytest.mark.live
def test_topics_that_others_made_are_named_with_what_to_do(bus_config: BusConfig, broker: LocalBroker) -> None:
    theirs = topic_name(bus_config.prefix, Feedback)
    admin = KafkaAdminClient(bootstrap_servers=bus_config.bootstrap_servers)
    admin.create_topics({theirs: {"num_partitions": 1, "replication_factor": 1}})
    admin.close()
    # A new topic is not known to all brokers at once.
    eventually(lambda: "grow" in doctor.check_topics(bus_config).fix)
    check = doctor.check_topics(bus_config)
    assert (check.state, theirs in check.found) == ("fail", True)
    assert "lifelong topics create" in check.fix and "lifelong topics grow, or lower bus.partitions" in check.fix
    if broker.kind == "kafka":  # Tansu hangs up when it is asked for settings
        assert f"--entity-name {theirs}" in check.fix
