"""Tests that the check of a program's topics covers all that the program does with them."""

import threading
from contextlib import closing
from dataclasses import replace
from typing import get_args

import pytest
from kafka.admin import ACLOperation, KafkaAdminClient, ResourceType  # type: ignore[import-untyped]

from services.local.kafka import LocalBroker
from services.settings import Settings, replaced
from services.topics import (
    MAY_WRITE,
    READS,
    WRITES,
    ProgramName,
    TopicsUnfit,
    findings_for,
    render_finding,
    require_topics,
    require_transactions,
)
from tests.secure_brokers import SecureBroker
from tests.waiting import eventually
from wire.bus import Bus, Finding
from wire.config import BusConfig
from wire.errors import BusRefused
from wire.records import Event, Feedback, topic_name

FINDING = Finding(topic="events.v1", found="it is missing", fix="lifelong topics create", is_wrong=True)


def test_every_program_has_its_uses() -> None:
    assert READS.keys() == WRITES.keys() == MAY_WRITE.keys() == set(get_args(ProgramName))


def test_each_topic_is_said_in_a_line() -> None:
    error = TopicsUnfit([FINDING, FINDING])
    assert str(error).count(render_finding(FINDING)) == 2
    assert render_finding(FINDING) == "events.v1: it is missing. Fix: lifelong topics create"


def test_a_broker_that_is_away_is_waited_for_later() -> None:
    nobody = BusConfig(bootstrap_servers="127.0.0.1:1", client={"request_timeout_ms": 500})
    require_topics(Settings(bus=nobody), "learn")


@pytest.mark.live
def test_topics_that_are_made_meanwhile_are_waited_for(bus_config: BusConfig) -> None:
    config = replace(bus_config, prefix=f"{bus_config.prefix}later.", topics_timeout_s=60.0)

    def create() -> None:
        with closing(Bus(config, client_id="test")) as bus:
            bus.create_topics()

    later = threading.Timer(1.0, create)
    later.start()
    require_topics(Settings(bus=config), "learn")
    later.join()


@pytest.mark.live
def test_topics_that_nobody_makes_are_named_with_the_command(bus_config: BusConfig) -> None:
    config = replace(bus_config, prefix=f"{bus_config.prefix}never.", topics_timeout_s=0.0)
    with pytest.raises(TopicsUnfit, match=r"never\.answers\.v1: it is missing.*lifelong topics create"):
        require_topics(Settings(bus=config), "rollout")


@pytest.mark.live
def test_a_broker_is_asked_for_transactions_and_one_that_has_none_is_refused(
    bus_config: BusConfig, broker: LocalBroker
) -> None:
    if broker.kind == "kafka":
        require_transactions(bus_config)
    else:
        with pytest.raises(BusRefused, match=r"set serving\.exactly_once to false"):
            require_transactions(bus_config)
    require_transactions(BusConfig(bootstrap_servers="127.0.0.1:1", client={"request_timeout_ms": 500}))


@pytest.mark.live
def test_a_replica_without_the_right_to_write_labels_starts_and_says_so(secure: SecureBroker) -> None:
    prefix = "no-labels."
    with closing(Bus(replace(secure.config, prefix=prefix), "alice")) as bus:
        bus.create_topics()
    bob = Settings(bus=replace(secure.bob(prefix), topics_timeout_s=0.0))
    secure.grant(prefix, ResourceType.TOPIC, ACLOperation.DESCRIBE, ACLOperation.DESCRIBE_CONFIGS)
    secure.grant(topic_name(prefix, Event), ResourceType.TOPIC, ACLOperation.READ)
    for record in WRITES["serve"]:
        secure.grant(topic_name(prefix, record), ResourceType.TOPIC, ACLOperation.WRITE)
    eventually(lambda: not any(each.is_wrong for each in findings_for(bob, "serve")))
    require_topics(bob, "serve")
    (noted,) = findings_for(bob, "serve")
    assert (noted.topic, noted.found) == (f"{prefix}feedback.v1", "we may not write it")
    labelled = replaced(bob, {"serving.series.labels": True})
    eventually(lambda: any(each.is_wrong for each in findings_for(labelled, "serve")))
    with pytest.raises(TopicsUnfit, match="we may not read it"):
        require_topics(labelled, "serve")


@pytest.mark.live
def test_a_missing_topic_that_a_program_may_do_without_is_noted(bus_config: BusConfig) -> None:
    config = replace(bus_config, prefix=f"{bus_config.prefix}some.", topics_timeout_s=0.0)
    with closing(KafkaAdminClient(bootstrap_servers=config.bootstrap_servers)) as admin:
        names = [topic_name(config.prefix, record) for record in (*READS["serve"], *WRITES["serve"])]
        admin.create_topics({name: {"num_partitions": 4, "replication_factor": 1} for name in names})
    settings = Settings(bus=config)
    eventually(lambda: not any(each.is_wrong for each in findings_for(settings, "serve")))
    require_topics(settings, "serve")
    labels = topic_name(config.prefix, Feedback)
    assert [each.fix for each in findings_for(settings, "serve") if each.topic == labels] == ["lifelong topics create"]
    with pytest.raises(TopicsUnfit, match=r"feedback\.v1: it is missing"):
        require_topics(settings, "learn")
