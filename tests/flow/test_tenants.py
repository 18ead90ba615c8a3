"""Two tenants on one Kafka, one Redis and one Ray, kept apart as docs/how-to/tenants.md says.

Both get the same events under the same ids, and labels of their own. Each learns its own labels alone, and one that
ends takes nothing from the other.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]

from learner.state.checkpoints import Checkpoints
from services.commands.exits import CONFIGURATION
from services.local.children import free_port
from services.versions import ROOT
from tests.clusters import RayNode, ray_environment
from tests.flow.cluster import CONSTANTS, Traffic, end
from tests.flow.test_upgrade import SETTINGS, calmly
from tests.learner.small_learner import save_encoder
from tests.learner.streams import TOPICS, label_of
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.errors import UnknownKey
from wire.keyring import new_ring
from wire.records import DeadLetter, Quarantined
from wire.sections import INTERNAL_VARIABLE
from wire.store import Store

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.parametrize("broker", ["kafka"], indirect=True),
]


class Tenant:
    """The settings of one tenant, and its programs, which end with the test."""

    def __init__(
        self, name: str, folder: Path, bus: BusConfig, store: StoreConfig, environ: dict[str, str], exits: ExitStack
    ) -> None:
        self.state_dir = folder / name
        self.bus = replace(bus, prefix=f"{bus.prefix}{name}.")
        self.store_config = replace(store, prefix=f"{store.prefix}{name}:")
        self.ring = new_ring()
        self.store = exits.enter_context(closing(Store(self.store_config, self.ring)))
        self._folder = folder
        self._name = name
        self._exits = exits
        self.environ = environ | {
            "LIFELONG_BUS__PREFIX": self.bus.prefix,
            "LIFELONG_STORE__PREFIX": self.store_config.prefix,
            "LIFELONG_SIGNING_KEY": self.ring.text,
            "LIFELONG_STATE_DIR": str(self.state_dir),
            "LIFELONG_SERVING__HTTP_PORT": str(free_port()),
        }

    def start(self, *words: str, **environ: str) -> "subprocess.Popen[bytes]":
        log = (self._folder / f"{self._name}-{words[0]}.log").open("ab")
        self._exits.callback(log.close)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "services.cli", *words, "--config", str(self._folder / "lifelong.toml")],
            env=self.environ | environ,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._exits.callback(end, process)
        return process

    def classes(self) -> set[str]:
        """Returns the classes in the newest checkpoint of the learner, and in the version that answers."""
        snapshot = Checkpoints(self.state_dir / "learner", num_newest=1).newest()
        assert snapshot is not None
        current = self.store.versions.manifest(self.store.versions.current())
        return {*snapshot.facts.classes, *filter(None, current.labels)}

    def num_refused(self) -> int:
        """Returns how many messages became dead letters, or labels were not believed."""
        with closing(Bus(self.bus, client_id="test")) as bus:
            return sum(bus.end_offsets(DeadLetter, Quarantined).values())


@pytest.fixture
def ray_port() -> int:
    return free_port()


@pytest.fixture
def ray(ray_port: int) -> Iterator[RayNode]:
    """Starts a Ray of one node, which both tenants use."""
    environ = {**os.environ, **ray_environment(), "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        node = RayNode(Path(folder), port=ray_port, num_cpus=4, environment=environ)
        yield node
        node.kill()


def other_label(number: int) -> str:
    return f"queue of {label_of(number)}"


def things(raw: Any, bus: BusConfig, store: StoreConfig) -> tuple[set[str], set[str]]:
    """Returns all topics and all keys of this test."""
    with closing(KafkaAdminClient(bootstrap_servers=bus.bootstrap_servers)) as admin:
        topics = {name for name in admin.list_topics() if name.startswith(bus.prefix)}
    return topics, {key.decode() for key in raw.scan_iter(match=f"{store.prefix}*")}


def test_two_tenants_answer_and_learn_side_by_side_and_have_nothing_in_common(
    ray: RayNode, ray_port: int, bus_config: BusConfig, store_config: StoreConfig, raw: Any, tmp_path: Path
) -> None:
    (tmp_path / "encoder").mkdir()
    (tmp_path / "lifelong.toml").write_text(SETTINGS.format(encoder=save_encoder(tmp_path / "encoder")))
    environ = {key: value for key, value in os.environ.items() if not key.startswith("LIFELONG_")} | {
        **ray_environment(),
        INTERNAL_VARIABLE: json.dumps(CONSTANTS),
        "PYTHONPATH": str(ROOT),
        "RAY_ADDRESS": f"127.0.0.1:{ray_port}",
        "LIFELONG_STORE__URL": store_config.url,
        "LIFELONG_BUS__BOOTSTRAP_SERVERS": bus_config.bootstrap_servers,
    }
    with ExitStack() as exits:
        tenants = [Tenant(name, tmp_path, bus_config, store_config, environ, exits) for name in ("shop", "shop2")]
        serving = []
        for tenant in tenants:
            assert tenant.start("topics", "create").wait(120) == 0
            for words in (("learn",), ("rollout", "run")):
                tenant.start(*words)
            serving.append(tenant.start("serve"))
        first, second = tenants
        calmly(lambda: all(len(tenant.store.reports.replicas()) == 1 for tenant in tenants))
        one = exits.enter_context(Traffic(first.bus))
        two = exits.enter_context(Traffic(second.bus, other_label))
        calmly(lambda: len(first.classes()) == len(second.classes()) == len(TOPICS))
        calmly(lambda: one.newest() > 1 and two.newest() > 1)
        assert first.classes() == set(TOPICS)
        assert second.classes() == {f"queue of {topic}" for topic in TOPICS}
        with closing(Store(second.store_config, first.ring)) as stranger, pytest.raises(UnknownKey):
            stranger.versions.manifest(stranger.versions.current())

        end(serving[0])
        assert len(ray.replicas) == 1, "the other's replica stays"
        waiting = two.unanswered()
        calmly(lambda: not waiting & two.unanswered())
        assert second.start("learn", LIFELONG_STATE_DIR=str(first.state_dir)).wait(120) == CONFIGURATION
        topics, keys = things(raw, bus_config, store_config)
        assert {topic.partition("events")[0] for topic in topics if "events" in topic} == {
            tenant.bus.prefix for tenant in tenants
        }
        assert all(name.startswith((first.bus.prefix, second.bus.prefix)) for name in topics)
        assert all(name.startswith((first.store_config.prefix, second.store_config.prefix)) for name in keys)
        assert second.num_refused() == 0
