"""The programs of the service on nodes of Ray, Kafka and Redis, and traffic in which each event must be answered.

Cluster: the servers of `tests/clusters.py`, `lifelong topics|learn|rollout|serve`
Traffic: events --> answers --> labels
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from services.local.children import free_port
from services.local.kafka import LocalBroker, kafka_home
from services.versions import ROOT
from tests.clusters import RayNode, WatchedRedis, ray_environment, start_kafka_nodes
from tests.learner.small_learner import save_encoder
from tests.learner.streams import label_of, make_text
from tests.required import missing
from tests.stores import KEYS, SIGNING_KEY
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.errors import StoreUnavailable, WireError
from wire.records import Answer, Event, Feedback, ReplicaReport
from wire.sections import INTERNAL_VARIABLE
from wire.store import Store

EVENTS_PER_S = 15

SETTINGS = """
encoder = "{encoder}"
log_json = true
[bus]
replication_factor = 3
[bus.client]
delivery_timeout_ms = 60000
fetch_max_wait_ms = 50
[serving]
replicas = 2
max_replicas_per_node = 1
http_port = {port}
drain_timeout_s = 5.0
[learner]
num_features = 96
label_capacity = 8
trainable_layers = 0
checkpoint_interval_s = 1.0
publish_interval_s = 0.5
"""

CONSTANTS = {"learner.min_holdout": 5, "learner.min_parity_cosine": 0.9, "learner.min_parity_agreement": 0.5}
"""What suits an encoder as small as that of the tests."""


class Traffic:
    """Sends events, labels each answer at once, and counts. Ends with the block."""

    def __init__(self, config: BusConfig, label_of: Callable[[int], str] = label_of) -> None:
        self._bus = Bus(config, client_id="traffic")
        self._label_of = label_of
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._label)]
        self._lock = threading.Lock()
        self.sent: set[str] = set()
        self.answered: dict[str, int] = {}
        """The newest version that answered each event."""
        self.num_sent = 0

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._bus.close(flush_s=10)

    def unanswered(self) -> set[str]:
        """Returns the events that Kafka has acknowledged and nobody has answered yet."""
        with self._lock:
            return self.sent - self.answered.keys()

    def newest(self) -> int:
        """Returns the newest version of the last answers."""
        with self._lock:
            return max(list(self.answered.values())[-50:], default=0)

    def _send(self) -> None:
        with closing(self._bus.publisher()) as publisher:
            while not self._stopping.wait(1 / EVENTS_PER_S):
                number = self.num_sent
                self.num_sent += 1
                event_id = f"event-{number}"

                def note(error: Exception | None, event_id: str = event_id) -> None:
                    if error is None:
                        with self._lock:
                            self.sent.add(event_id)

                with suppress(WireError):  # such an event was never accepted
                    publisher.send(Event(id=event_id, text=make_text(number), key=f"customer {number % 97}"), note)

    def _label(self) -> None:
        follower = self._bus.follow([Answer], {})
        with closing(self._bus.publisher()) as publisher, closing(follower):
            while not self._stopping.is_set():
                with suppress(WireError):
                    for received in follower.poll(100).received:
                        self._note(received.record)
                        number = int(received.record.event_id.removeprefix("event-"))
                        publisher.send(Feedback(event_id=received.record.event_id, label=self._label_of(number)))

    def _note(self, answer: Answer) -> None:
        with self._lock:
            version = max(answer.weights_version, self.answered.pop(answer.event_id, 0))
            self.answered[answer.event_id] = version


class Cluster:
    """All servers and all programs of the service."""

    def __init__(self, folder: Path, exits: ExitStack) -> None:
        home = kafka_home()
        if home is None:
            missing("kafka", "Apache Kafka: KAFKA_HOME is not set")
        self._folder = folder
        self._exits = exits
        self.ray_port = free_port()
        self._short = exits.enter_context(tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True))
        self.head = self.ray_node("head")
        self.workers = [self.ray_node(name) for name in ("one", "two")]  # later, two cores have no time for another
        self.redis = WatchedRedis(folder / "redis")
        exits.callback(self.redis.stop)
        self.kafka: list[LocalBroker] = start_kafka_nodes(home, folder)
        for node in self.kafka:
            exits.callback(node.stop)
        for node in self.kafka:
            node.await_up()
        self.bus_config = BusConfig(
            bootstrap_servers=",".join(node.bootstrap_servers for node in self.kafka), replication_factor=3
        )
        self.store = Store(StoreConfig(url=self.redis.url), KEYS)
        exits.callback(self.store.close)
        (folder / "encoder").mkdir()
        encoder = save_encoder(folder / "encoder")
        self._settings = folder / "lifelong.toml"
        self._settings.write_text(SETTINGS.format(encoder=encoder, port=free_port()))

    def ray_node(self, name: str) -> RayNode:
        port = self.ray_port
        address = "" if name == "head" else f"127.0.0.1:{port}"
        environment = {**os.environ, **ray_environment(), "PYTHONPATH": str(ROOT)}
        node = RayNode(Path(self._short) / name, address=address, port=port, num_cpus=2, environment=environment)
        self._exits.callback(node.kill)
        return node

    @property
    def environment(self) -> dict[str, str]:
        ours = {key: value for key, value in os.environ.items() if not key.startswith("LIFELONG_")}
        servers = ",".join(node.bootstrap_servers for node in self.kafka)
        return {
            **ours,
            **ray_environment(),
            "PYTHONPATH": str(ROOT),
            "RAY_ADDRESS": f"127.0.0.1:{self.ray_port}",
            INTERNAL_VARIABLE: json.dumps(CONSTANTS),
            "LIFELONG_SIGNING_KEY": SIGNING_KEY.decode(),
            "LIFELONG_STORE__URL": self.redis.url,
            "LIFELONG_BUS__BOOTSTRAP_SERVERS": servers,
        }

    def start(self, *words: str, state: str) -> "subprocess.Popen[bytes]":
        """Starts a command with a state folder of its own, as on a machine of its own."""
        log = (self._folder / f"{state}.log").open("ab")
        self._exits.callback(log.close)
        process = subprocess.Popen(
            [sys.executable, "-m", "services.cli", *words, "--config", str(self._settings)],
            env={**self.environment, "LIFELONG_STATE_DIR": str(self._folder / state)},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._exits.callback(end, process)
        return process

    def replicas(self) -> list[int]:
        """Returns how many replicas each node has, the head first."""
        return [len(node.replicas) for node in (self.head, *self.workers) if node.process.poll() is None]

    def reports(self) -> list[ReplicaReport]:
        with suppress(StoreUnavailable):
            return list(self.store.reports.replicas())
        return []


def end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
