"""An Apache Kafka whose topics lose their last records, as a power cut loses those that no disk had yet.

remember(record): the folders of its partitions are copied     cut(record): kill -9, the copies put back, start
"""

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from services.local.kafka import LocalBroker
from tests.brokers import start_kind
from tests.wire.bus.traffic import kept_ports, kill
from wire.bus import Bus
from wire.config import BusConfig
from wire.records import TopicRecord, topic_name

_numbers = count()


class CutKafka:
    """One node, whose address stays the same."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._find_port = kept_ports(2)
        self.broker: LocalBroker = start_kind("kafka", folder / "kafka", self._find_port)

    def kill(self) -> None:
        kill(self.broker)

    def start(self) -> None:
        self.broker = start_kind("kafka", self.folder / "kafka", self._find_port)

    def stop(self) -> None:
        self.broker.stop()


class CutTopics:
    """The topics of one test. Only those that are cut lose something."""

    def __init__(self, kafka: CutKafka) -> None:
        self._kafka = kafka
        self.config = BusConfig(
            bootstrap_servers=kafka.broker.bootstrap_servers,
            prefix=f"cut{next(_numbers)}.",
            partitions=1,
            client={"session_timeout_ms": 6_000, "heartbeat_interval_ms": 200},
        )

    def partition(self, record: type[TopicRecord]) -> str:
        """The name of the only partition of a topic."""
        return f"{topic_name(self.config.prefix, record)}/0"

    def remember(self, record: type[TopicRecord]) -> None:
        """Notes what of the topic is on the disk now."""
        folder = self._folder(record)
        shutil.copytree(folder, self._kafka.folder / folder.name)

    def cut(self, *records: type[TopicRecord]) -> None:
        """Loses what came into these topics since `remember`."""
        self._kafka.kill()
        for record in records:
            folder = self._folder(record)
            shutil.rmtree(folder)
            shutil.copytree(self._kafka.folder / folder.name, folder)
        self._kafka.start()

    def _folder(self, record: type[TopicRecord]) -> Path:
        return self._kafka.folder / "kafka" / "logs" / f"{topic_name(self.config.prefix, record)}-0"


@pytest.fixture(scope="session")
def cut_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CutKafka]:
    """Starts one broker for all tests that cut logs."""
    broker = CutKafka(tmp_path_factory.mktemp("cut"))
    yield broker
    broker.stop()


@pytest.fixture
def cut_topics(cut_kafka: CutKafka) -> CutTopics:
    """Returns the test's own topics on it, each with one partition."""
    topics = CutTopics(cut_kafka)
    bus = Bus(topics.config, "test")
    bus.create_topics()
    bus.close()
    return topics
