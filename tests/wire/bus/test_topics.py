"""The configuration of our topics, as a broker applies it."""

import json
from contextlib import closing
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from services.local.kafka import LocalBroker
from tests.brokers import take
from tests.learner.streams import answer, feedback
from wire.bus import Bus
from wire.config import BusConfig
from wire.errors import BusUnavailable
from wire.records import Event, Feedback, TopicRecord, topic_name

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


def test_topics_that_others_made_are_told_apart(bus_config: BusConfig, admin: Any, broker: LocalBroker) -> None:
    """B6: an existing topic keeps its settings, so labels would be lost where a sender's clock is wrong."""
    config = replace(bus_config, prefix=f"{bus_config.prefix}others.")
    theirs = topic_name(config.prefix, Feedback)
    with closing(Bus(config, client_id="test")) as bus:
        assert bus.topics_timed_by_sender() == []
        admin.create_topics({theirs: {"num_partitions": 1, "replication_factor": 1}})
        bus.create_topics()
        if broker.kind == "kafka":
            assert bus.topics_timed_by_sender() == [theirs]
        else:
            with pytest.raises(BusUnavailable):  # Tansu hangs up when it is asked for settings
                bus.topics_timed_by_sender()
