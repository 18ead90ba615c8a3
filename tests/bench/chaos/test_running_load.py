"""The load of a scene, on a real broker and a real Redis: events are answered and labelled; the topics have both."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from bench.chaos.faults import Fault, FaultKind
from bench.chaos.injection import Injector
from bench.chaos.ledger import IDS
from bench.chaos.running import SOURCES, running
from bench.chaos.scene import Missing, api_keys, scene_settings
from bench.chaos.size import SceneSize
from bench.chaos.synced import LostTails
from evals.load.readback import TopicContents, read_back
from evals.load.session import Loops
from evals.streams.stream import StreamItem
from services.local.children import free_port
from services.settings import Settings
from tests.evals.load.answerer import Answerer
from tests.stores import SIGNING_KEY
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.records import Answer, DeadLetter, Event, Feedback
from wire.store import Store

pytestmark = pytest.mark.live

SIZE = SceneSize(rate=50.0, http_every=10, label_delay_s=(0.05, 0.2))
ITEMS = [StreamItem("red one", "red"), StreamItem("blue one", "blue")]


class KafkaAlone:
    """A scene without HTTP, with the broker and the store of the test."""

    name = "kafka alone"
    num_unexpected_ends = 0

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self.api_keys = api_keys(folder)
        self.lost = LostTails()
        self.num_checks = 0
        """How often it was asked whether all replicas answer. The third time they do."""

    def settings(self) -> Settings:
        return self._settings

    def kinds(self) -> list[FaultKind]:
        return []

    def missing(self) -> dict[Missing, str]:
        return {}

    def start(self) -> None: ...

    def check(self) -> None: ...

    def is_whole(self) -> bool:
        self.num_checks += 1
        return self.num_checks > 2

    def restart(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def scene(tmp_path: Path, bus_config: BusConfig, store_config: StoreConfig) -> KafkaAlone:
    settings = scene_settings(state_dir=str(tmp_path), serving__http_port=free_port())
    parts = {"bus": bus_config, "store": store_config, "signing_key": SecretStr(SIGNING_KEY.decode())}
    return KafkaAlone(settings.model_copy(update=parts), tmp_path)


def test_events_are_answered_and_labelled_and_those_over_http_wait(scene: KafkaAlone, bus: Bus, store: Store) -> None:
    answerer = Answerer(bus, store)
    with Loops(answerer), running(scene, ITEMS, SIZE) as load:
        assert load.wait(lambda: load.ledger.num_sent >= 40, 60.0)
        load.pacer.stop()
        num_http = len([number for number in range(load.ledger.num_sent) if load.ledger.is_http(number)])
        assert load.wait(lambda: load.ledger.num_unanswered == num_http, 60.0)
        assert load.wait(lambda: not load.ledger.num_unlabelled and not load.sender.num_open, 60.0)
        assert load.ledger.http_failures, "nobody listens"
        contents = TopicContents(IDS.number_of, sources=SOURCES, keeps=True)
        back = read_back(bus, contents, (Event, Answer, Feedback, DeadLetter))
        sent = load.ledger.as_sent()
    over_kafka = {number for number in range(len(sent.sent_s)) if not sent.is_http(number)}
    assert set(back.answers) == set(back.labels) == over_kafka
    assert back.labels.total() == sum(sent.labelled)
    assert back.num_records[Answer.TOPIC] == len(over_kafka)


def test_a_fault_waits_until_all_replicas_answer(scene: KafkaAlone, bus: Bus) -> None:
    bus.create_topics()
    checks_before: list[int] = []

    def begin() -> str:
        checks_before.append(scene.num_checks)
        return ""

    with running(scene, ITEMS, SIZE) as load:
        injector = Injector(load, replace(SIZE, stuck_s=1.0), lambda _: None)
        injector.inject_all([Fault("any", begin)])
        load.pacer.stop()
    assert checks_before == [3]
    assert injector.log.recoveries_s["other"] == [None, None], "nobody learns here"
