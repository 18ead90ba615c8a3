"""The configuration of our topics, as a broker applies it; how they are made and grow."""

import json
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from kafka.admin import ACLOperation, ResourceType  # type: ignore[import-untyped]

from services.local.kafka import LocalBroker
from tests.brokers import take
from tests.learner.streams import answer, feedback
from tests.secure_brokers import SecureBroker
from tests.waiting import eventually
from wire.bus import Bus
from wire.config import BusConfig
from wire.errors import BusRefused, BusUnauthorized
from wire.records import TOPIC_RECORDS, Event, TopicRecord, topic_name

pytestmark = pytest.mark.live


@pytest.mark.parametrize(
    ("record", "is_set_by_broker"),
    [(Event(id="e", text="hello"), False), (answer(1), True), (feedback(1), True)],
    ids=["event", "answer", "label"],
)
def test_the_times_of_answers_and_labels_in_their_logs_are_the_brokers(
    record: TopicRecord, is_set_by_broker: bool, bus: Bus, bus_config: BusConfig, foreign: Any, broker: LocalBroker
) -> None:
    """B6: Tansu alone keeps the sender's time."""
    topic = topic_name(bus_config.prefix, type(record))
    foreign.send(topic, value=json.dumps(msgspec.structs.asdict(record)).encode(), timestamp_ms=5).get(30)
    (received,) = take(bus.follow([type(record)], {}).poll, 1)
    assert (received.log_ms != 5) == (is_set_by_broker and broker.kind == "kafka")


@pytest.mark.parametrize("broker", ["kafka"], indirect=True)
def test_what_is_missing_is_created_once_and_grows(bus_config: BusConfig) -> None:
    with closing(Bus(bus_config, client_id="test")) as bus:
        assert len(bus.create_topics()) == len(TOPIC_RECORDS)
        assert (bus.create_topics(), bus.grow_topics()) == ([], {})
    with closing(Bus(replace(bus_config, partitions=6), client_id="test")) as bus:
        assert set(bus.grow_topics().values()) == {4}
        eventually(lambda: bus.grow_topics() == {})
        eventually(lambda: len(bus.end_offsets(Event)) == 6)


@pytest.mark.parametrize("broker", ["kafka"], indirect=True)
def test_what_a_broker_does_not_allow_names_the_settings(bus_config: BusConfig) -> None:
    with (
        closing(Bus(replace(bus_config, replication_factor=3), client_id="test")) as bus,
        pytest.raises(BusRefused, match=r"bus\.replication_factor"),
    ):
        bus.create_topics()


def test_who_may_not_create_topics_uses_those_that_are_there(secure: SecureBroker) -> None:
    with closing(Bus(secure.bob("made."), "bob")) as bus:
        with pytest.raises(BusUnauthorized, match="made"):
            bus.create_topics()
        with closing(Bus(replace(secure.config, prefix="made."), "alice")) as theirs:
            theirs.create_topics()
        secure.grant("made.", ResourceType.TOPIC, ACLOperation.READ)

        def needs_none() -> bool:
            with suppress(BusUnauthorized):  # the right is not everywhere at once
                return bus.create_topics() == []
            return False

        eventually(needs_none)
