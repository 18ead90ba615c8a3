"""What each program does with its topics is what it is checked for."""

import threading
from contextlib import closing
from dataclasses import replace
from typing import get_args

import pytest

from services.local.kafka import LocalBroker
from services.topic_uses import READS, WRITES, ProgramName, TopicsUnfit, line_of, require_topics, require_transactions
from wire.bus import Bus, Finding
from wire.config import BusConfig
from wire.errors import BusRefused

FINDING = Finding(topic="events.v1", found="it is missing", fix="lifelong topics create", is_wrong=True)


def test_every_program_has_its_uses() -> None:
    assert READS.keys() == WRITES.keys() == set(get_args(ProgramName))


def test_each_topic_is_said_in_a_line() -> None:
    error = TopicsUnfit([FINDING, FINDING])
    assert str(error).count(line_of(FINDING)) == 2
    assert line_of(FINDING) == "events.v1: it is missing. Mend it: lifelong topics create"


def test_a_broker_that_is_away_is_waited_for_later() -> None:
    require_topics(BusConfig(bootstrap_servers="127.0.0.1:1", request_timeout_ms=500), "learn")


@pytest.mark.live
def test_topics_that_are_made_meanwhile_are_waited_for(bus_config: BusConfig) -> None:
    config = replace(bus_config, prefix=f"{bus_config.prefix}later.", topics_timeout_s=60.0)

    def create() -> None:
        with closing(Bus(config, client_id="test")) as bus:
            bus.create_topics()

    later = threading.Timer(1.0, create)
    later.start()
    require_topics(config, "learn")
    later.join()


@pytest.mark.live
def test_topics_that_nobody_makes_are_named_with_the_command(bus_config: BusConfig) -> None:
    config = replace(bus_config, prefix=f"{bus_config.prefix}never.", topics_timeout_s=0.0)
    with pytest.raises(TopicsUnfit, match=r"never\.answers\.v1: it is missing.*lifelong topics create"):
        require_topics(config, "rollout")


@pytest.mark.live
def test_a_broker_is_asked_for_transactions_and_one_that_has_none_is_refused(
    bus_config: BusConfig, broker: LocalBroker
) -> None:
    if broker.kind == "kafka":
        require_transactions(bus_config)
    else:
        with pytest.raises(BusRefused, match=r"set serving\.exactly_once to false"):
            require_transactions(bus_config)
    require_transactions(BusConfig(bootstrap_servers="127.0.0.1:1", request_timeout_ms=500))
