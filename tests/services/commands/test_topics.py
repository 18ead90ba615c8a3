"""`lifelong topics create` on a real broker, once and again."""

from contextlib import closing

import pytest
from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]

from tests.services.command_line import lifelong
from wire.config import BusConfig
from wire.records import TOPIC_RECORDS, topic_name


@pytest.mark.live
@pytest.mark.parametrize("broker", ["tansu"], indirect=True)
def test_the_topics_are_created_and_what_exists_stays(bus_config: BusConfig) -> None:
    environ = {
        "LIFELONG_BUS__BOOTSTRAP_SERVERS": bus_config.bootstrap_servers,
        "LIFELONG_BUS__PREFIX": bus_config.prefix,
    }
    for _ in range(2):
        done = lifelong("topics", "create", **environ)
        assert done.returncode == 0, done.stderr
    with closing(KafkaAdminClient(bootstrap_servers=bus_config.bootstrap_servers)) as admin:
        assert {topic_name(bus_config.prefix, record) for record in TOPIC_RECORDS} <= {*admin.list_topics()}


def test_a_broker_must_be_named_and_answer() -> None:
    done = lifelong("topics", "create")
    assert done.returncode == 78
    assert "bus.bootstrap_servers" in done.stderr
    gone = lifelong("topics", "create", LIFELONG_BUS__BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert gone.returncode == 75
