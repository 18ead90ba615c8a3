"""The findings about topics: each on a real broker, with the command that fixes it."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from kafka.admin import (  # type: ignore[import-untyped]
    ACLOperation,
    ConfigResource,
    ConfigResourceType,
    KafkaAdminClient,
    ResourceType,
)

from services.local.kafka import LocalBroker
from tests.secure_brokers import SecureBroker
from tests.waiting import eventually
from wire.bus import Bus, Finding
from wire.config import BusConfig
from wire.mapping import EventMap, MapConfig
from wire.records import TOPIC_RECORDS, Answer, DeadLetter, Event, Feedback, topic_name

pytestmark = pytest.mark.live

HOUR_MS = 3_600_000


def findings(config: BusConfig) -> list[Finding]:
    with closing(Bus(config, client_id="test")) as bus:
        return bus.check_topics((Event, Answer, Feedback), (Answer, DeadLetter))


def test_new_topics_are_fit(bus: Bus, bus_config: BusConfig) -> None:
    """Tansu has no findings, either: facts that it does not report are not wrong."""
    assert bus.check_topics(TOPIC_RECORDS, TOPIC_RECORDS) == []
    assert findings(bus_config) == []


def test_missing_topics_are_named_with_the_command(bus_config: BusConfig, broker: LocalBroker) -> None:
    mapped = replace(bus_config, map=MapConfig(events=EventMap(topic=(f"{bus_config.prefix}crm",), text="{body}")))
    found = {each.topic: each for each in findings(mapped)}
    assert found.keys() == {f"{bus_config.prefix}{name}" for name in ("crm", "events.v1", "answers.v1", "feedback.v1",
                                                                      "deadletter.v1")}  # fmt: skip
    assert all(each.is_wrong for each in found.values())
    assert found[topic_name(bus_config.prefix, Event)].fix == "lifelong topics create"
    assert "bus.map" in found[f"{bus_config.prefix}crm"].fix


@pytest.mark.parametrize("broker", ["kafka"], indirect=True)
@pytest.mark.parametrize(
    ("record", "options", "found", "is_wrong"),
    [
        (Event, {"cleanup.policy": "compact"}, "compacted", True),
        (Answer, {"retention.ms": str(HOUR_MS // 2)}, "deleted after 0.5 h", True),
        (
            Answer,
            {"retention.ms": str(HOUR_MS * 24)},
            "deleted after 24 h; a new topic would keep them for 168 h",
            False,
        ),
        (Feedback, {"message.timestamp.type": "CreateTime"}, "senders set its timestamps", False),
    ],
)
def test_settings_that_lose_records_are_found(
    record: Any, options: Mapping[str, str], found: str, is_wrong: bool, bus: Bus, bus_config: BusConfig, admin: Any
) -> None:
    name = topic_name(bus_config.prefix, record)
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, dict(options))])
    eventually(lambda: bool(findings(bus_config)))  # a new setting is not everywhere at once
    (finding,) = findings(bus_config)
    assert (finding.topic, finding.is_wrong) == (name, is_wrong)
    assert (
        found in finding.found and f"kafka-configs.sh --alter --entity-type topics --entity-name {name}" in finding.fix
    )


@pytest.mark.parametrize("broker", ["kafka"], indirect=True)
def test_too_few_partitions_are_wrong(bus: Bus, bus_config: BusConfig) -> None:
    found = findings(replace(bus_config, partitions=6))
    assert {each.fix for each in found} == {"lifelong topics grow, or lower bus.partitions if the topic cannot grow"}
    assert findings(replace(bus_config, partitions=4)) == []
    assert found[0].is_wrong and "4 partitions, bus.partitions is 6" in found[0].found


def wrong(config: BusConfig) -> dict[str, Finding]:
    return {each.topic: each for each in findings(config) if each.is_wrong}


def test_rights_that_are_missing_are_named(secure: SecureBroker) -> None:
    bob = made_for_bob(secure, "asked.")
    secure.grant("asked.", ResourceType.TOPIC, ACLOperation.READ)
    eventually(lambda: not any("hidden from us" in each.found for each in wrong(bob).values()))
    found = wrong(bob)
    assert found.keys() == {"asked.answers.v1", "asked.deadletter.v1"}
    assert all("we may not write it" in each.found for each in found.values())
    fix = "kafka-acls.sh --add --allow-principal User:bob --operation Write --topic asked.answers.v1"
    assert found["asked.answers.v1"].fix == fix
    secure.grant("asked.", ResourceType.TOPIC, ACLOperation.WRITE)
    eventually(lambda: not wrong(bob))


def test_settings_that_are_hidden_from_us_are_noted_with_the_right_to_grant(secure: SecureBroker) -> None:
    """Only a user who may read the settings finds mistakes in them."""
    bob = made_for_bob(secure, "hidden.", {"hidden.events.v1": {"cleanup.policy": "compact"}})
    secure.grant("hidden.", ResourceType.TOPIC, ACLOperation.READ, ACLOperation.WRITE)
    eventually(lambda: not wrong(bob))
    noted = {each.topic: each for each in findings(bob)}
    assert noted.keys() == {f"hidden.{name}.v1" for name in ("events", "answers", "feedback", "deadletter")}
    assert all("its settings are hidden from us" in each.found for each in noted.values())
    fix = "kafka-acls.sh --add --allow-principal User:bob --operation DescribeConfigs --topic hidden.answers.v1"
    assert noted["hidden.answers.v1"].fix == fix
    secure.grant("hidden.events", ResourceType.TOPIC, ACLOperation.DESCRIBE_CONFIGS)
    eventually(lambda: bool(wrong(bob)))
    found = {each.topic: each for each in findings(bob)}
    assert found.keys() == noted.keys()
    assert "compacted" in found["hidden.events.v1"].found
    secure.grant("hidden.", ResourceType.TOPIC, ACLOperation.DESCRIBE_CONFIGS)
    eventually(lambda: findings(bob) == [found["hidden.events.v1"]])


def made_for_bob(
    secure: SecureBroker, prefix: str, options: Mapping[str, Mapping[str, str]] | None = None
) -> BusConfig:
    """Creates topics with this prefix, some with other settings; returns the settings of bob, who has no rights."""
    with closing(Bus(replace(secure.config, prefix=prefix), "alice")) as bus:
        bus.create_topics()
    with closing(KafkaAdminClient(bootstrap_servers=secure.plain)) as admin:
        for name, values in (options or {}).items():
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, values)])
    return secure.bob(prefix)
