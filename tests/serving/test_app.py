"""The replicas on a real Ray Serve, in a process of their own, as a user starts them."""

import ast
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx2
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.cluster import ENVIRONMENT
from tests.serving.http.test_listener import make_listener
from tests.serving.versions import TinyPublisher, label_of
from tests.stores import SIGNING_KEY
from tests.waiting import eventually
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.records import Answer, Event
from wire.store import Store

pytestmark = [pytest.mark.live, pytest.mark.parametrize("broker", ["tansu"], indirect=True)]
"""One broker is enough for Ray."""

ROOT = Path(__file__).resolve().parent.parent.parent

PROGRAM = """
import signal, sys, threading
from serving.app import run
from serving.config import ServingConfig; from serving.replica_config import ReplicaConfig
from serving.scaling import ScalingConfig
from serving.cluster import RayLost
from services.commands.exits import exit_code
from wire.config import BusConfig, StoreConfig
from wire.keyring import parse
from wire.logs import LogConfig
from wire.mapping import *; from wire.registry import RegistryConfig
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
config = ReplicaConfig(
    encoder="minilm-l6",
    serving=ServingConfig(**{serving}, drain_timeout_s=5.0, report_interval_s=0.2),
    bus={bus},
    store={store},
    ring=parse({key!r}), logs=LogConfig("debug", as_json=True),
)
try:
    run(config, stop)
except RayLost as error:
    print(error, file=sys.stderr)
    sys.exit(exit_code(error))
"""


@dataclass(frozen=True)
class Served:
    """`lifelong serve` without the command line."""

    process: subprocess.Popen[bytes]
    log: Path
    grpc_port: int

    @property
    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    @property
    def replicas(self) -> list[psutil.Process]:
        living = [child for child in self.children if child.status() != psutil.STATUS_ZOMBIE]
        return [child for child in living if "ServeReplica" in " ".join(child.cmdline())]


@pytest.fixture
def serve(bus_config: BusConfig, store_config: StoreConfig, tmp_path: Path) -> Callable[..., Any]:
    """Starts replicas on a port, and asserts how the process ends."""

    @contextmanager
    def serving(port: int, *, replicas: int, ends_with: int = 0, **changed: Any) -> Iterator[Served]:
        serving = {"http_port": port, "grpc_port": free_port(), "replicas": replicas, **changed}
        program = PROGRAM.format(serving=serving, bus=bus_config, store=store_config, key=SIGNING_KEY.decode())
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        log = tmp_path / f"serve-{port}.log"
        with log.open("ab") as out:
            process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=environment, stderr=out)
        try:
            yield Served(process, log, serving["grpc_port"])
        finally:
            process.terminate()
            assert process.wait(60) == ends_with, log.read_text()

    return serving


def free_port() -> int:
    with closing(make_listener("nobody")) as listener:
        return listener.port


def test_two_replicas_answer_on_one_port_survive_a_death_and_drain(
    bus: Bus, store: Store, serve: Callable[..., Any]
) -> None:
    learner = TinyPublisher(store)
    learner.publish(1)
    learner.plan(1)
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    with serve(port, replicas=2) as served:
        eventually(lambda: [report.versions for report in store.reports.replicas()] == [(1,), (1,)], within_s=60)
        names = {httpx2.get(f"{url}/status").json()["replica"] for _ in range(40)}
        assert names == {report.replica for report in store.reports.replicas()}
        assert httpx2.post(f"{url}/predict", json={"text": "hello"}).json()["answers"][0]["label"] == label_of(
            1, "hello"
        )
        with grpc.insecure_channel(f"127.0.0.1:{served.grpc_port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            health = stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=60)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        assert events_in(served.log) >= {"version_loaded", "swapped"}
        commands = [" ".join(child.cmdline()) for child in served.children]
        assert any("/gcs/gcs_server" in command for command in commands)
        unused = ("ray/dashboard/dashboard.py", "ray/autoscaler/_private/monitor.py")
        assert not [command for command in commands for script in unused if script in command]

        victim, *_ = served.replicas
        victim.send_signal(signal.SIGKILL)
        events = [Event(id=f"e{index}", text="hello", key=f"k{index}") for index in range(100)]
        send(bus, events)
        await_answers(bus, {event.id for event in events})
        eventually(lambda: len(served.replicas) == 2, within_s=60)
        addresses = set[str]()
        for child in served.children:
            listening = [each for each in child.net_connections("inet") if each.status == psutil.CONN_LISTEN]
            addresses.update(each.laddr.ip.removeprefix("::ffff:") for each in listening)
        assert addresses == {"127.0.0.1"}
        writing_to = [os.readlink(f"/proc/{replica.pid}/fd/2") for replica in served.replicas]
        assert all(each.startswith("pipe:") for each in writing_to), "B25: only what is piped is rotated by Ray"


def events_in(log: Path) -> set[str]:
    """Returns the log events; every line must be JSON."""
    lines = [line for line in log.read_text().splitlines() if line]
    return {json.loads(line)["event"] for line in lines}


@pytest.mark.slow
def test_a_replica_that_hangs_is_replaced_and_when_ray_dies_the_next_one_serves_on_the_same_port(
    store: Store, serve: Callable[..., Any]
) -> None:
    """F33. F32, B7: nobody watched Ray, its orphan then held the port, and the next `serve` ended with 78."""
    learner = TinyPublisher(store)
    learner.publish(1)
    learner.plan(1)
    port = free_port()

    def is_ready() -> bool:
        try:
            return httpx2.get(f"http://127.0.0.1:{port}/v1/health/ready").status_code == 200
        except httpx2.TransportError:
            return False

    with serve(port, replicas=1, ends_with=os.EX_TEMPFAIL) as served:
        eventually(is_ready, within_s=60)
        time.sleep(5)  # it answers before Serve knows that it runs, and Serve asks only those how they are
        (hung,) = served.replicas
        hung.send_signal(signal.SIGSTOP)
        eventually(lambda: not hung.is_running(), within_s=25)
        eventually(is_ready, within_s=60)
        family = served.children
        gcs = next(child for child in family if child.name() == "gcs_server")
        gcs.kill()
        assert served.process.wait(45) == os.EX_TEMPFAIL
        assert "gcs_server of Ray ended" in served.log.read_text()
    with serve(port, replicas=1) as again:  # until the orphan has ended, it is the one that answers
        eventually(lambda: bool(again.replicas) and is_ready(), within_s=90)
    for orphan in family:
        with suppress(psutil.NoSuchProcess):
            orphan.kill()


def send(bus: Bus, events: list[Event]) -> None:
    with closing(bus.publisher()) as publisher:
        for event in events:
            publisher.send(event)


def await_answers(bus: Bus, event_ids: set[str]) -> None:
    """Waits until every event is answered, some perhaps twice: by the replica that died, and by its successor."""
    missing = set(event_ids)

    def is_complete() -> bool:
        missing.difference_update(each.record.event_id for each in follower.poll(100).received)
        return not missing

    with closing(bus.follow([Answer], {})) as follower:
        eventually(is_complete, within_s=60)


SHARED = """
import sys
import ray
from ray import serve

@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Other:
    pass

ray.init(address="local", num_cpus=4, include_dashboard=False, object_store_memory=128 << 20, _temp_dir=sys.argv[1])
serve.start(proxy_location="Disabled")
serve.run(Other.bind(), name="other", route_prefix=None)
print(ray.get_runtime_context().gcs_address, flush=True)
for _ in sys.stdin:
    print(sorted(serve.status().applications), flush=True)
serve.shutdown()
"""


@pytest.mark.slow
def test_on_a_shared_ray_only_our_own_application_is_removed(
    store: Store, serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, short_folder: Path
) -> None:
    """F32: stopping `lifelong serve` stopped every application on the cluster."""
    for name, value in {
        **ENVIRONMENT,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "a token of 32 characters or more",
    }.items():
        monkeypatch.setenv(name, value)
    argv = [sys.executable, "-c", SHARED, str(short_folder)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shared:

        def applications() -> str:
            assert shared.stdin is not None and shared.stdout is not None
            print(file=shared.stdin, flush=True)
            return shared.stdout.readline().strip()

        assert shared.stdout is not None
        monkeypatch.setenv("RAY_ADDRESS", shared.stdout.readline().strip())
        with serve(free_port(), replicas=1):
            eventually(lambda: len(store.reports.replicas()) == 1, within_s=90)
            ours, other = ast.literal_eval(applications())
            assert (ours.startswith("lifelong"), other) == (True, "other")
        assert applications() == "['other']"


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Yields a folder with a short path, since sockets of Ray lie in it."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
