"""Replicas that are killed at any moment while they answer exactly once: each event has one committed answer."""

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from services.versions import ROOT
from tests.serving.kafka.test_exactly_once import answers_by
from tests.serving.versions import TinyPublisher
from tests.waiting import eventually
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.records import Event
from wire.store import Store

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.parametrize("broker", ["kafka"], indirect=True),
]

KILLS = 8
EVENTS_PER_S = 100
BETWEEN_S = (3.0, 9.0)
"""A killed member is missed after 6 s, so that some kills come within a rebalance."""

ANSWERED_S = 120.0


@pytest.fixture
def start(bus_config: BusConfig, store_config: StoreConfig) -> Iterator[Callable[[str], "subprocess.Popen[bytes]"]]:
    processes: list[subprocess.Popen[bytes]] = []
    servers = [bus_config.bootstrap_servers, bus_config.prefix, store_config.url, store_config.prefix]

    def start_one(name: str) -> "subprocess.Popen[bytes]":
        argv = [sys.executable, "-m", "tests.serving.replica_process", name, *servers]
        processes.append(subprocess.Popen(argv, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}))
        return processes[-1]

    yield start_one
    for process in processes:
        process.kill()
        process.wait()


def send_until(stop: threading.Event, bus: Bus, sent: list[str]) -> None:
    with closing(bus.publisher()) as publisher:
        while not stop.wait(1 / EVENTS_PER_S):
            event = Event(id=f"e{len(sent)}", text=f"text number {len(sent)}", key=f"k{len(sent) % 50}")
            publisher.send(event)
            sent.append(event.id)


def test_killed_replicas_leave_one_answer_of_each_event(
    start: Callable[[str], "subprocess.Popen[bytes]"], bus: Bus, bus_config: BusConfig, store: Store
) -> None:
    learner = TinyPublisher(store)
    learner.publish(1)
    learner.plan(1)
    rng = random.Random(7)
    running = [start(f"replica{number}") for number in range(2)]
    eventually(lambda: len(store.reports.replicas()) == 2)
    stop = threading.Event()
    sent: list[str] = []
    sender = threading.Thread(target=send_until, args=(stop, bus, sent))
    sender.start()
    for kill in range(KILLS):
        time.sleep(rng.uniform(*BETWEEN_S))
        victim = running.pop(rng.randrange(2))
        victim.kill()
        victim.wait()
        running.append(start(f"replica{kill + 2}"))
    stop.set()
    sender.join()
    eventually(lambda: answers_by(bus_config).keys() == set(sent), within_s=ANSWERED_S)
    counted = answers_by(bus_config)
    assert [event_id for event_id, num in counted.items() if num != 1] == []
