"""F31: while no replica lives, requests fail at once, and whoever comes next answers what Kafka has kept."""

import signal
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.serving import test_app
from tests.serving.test_app import await_answers, free_port, send
from tests.serving.versions import TinyPublisher
from tests.waiting import eventually
from wire.bus import Bus
from wire.records import Event
from wire.store import Store

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.parametrize("broker", ["tansu"], indirect=True)]

ERROR_S = 1.0
BACK_S = 30.0

serve = test_app.serve


def test_with_every_replica_killed_requests_fail_within_a_second_and_are_answered_again_within_30(
    bus: Bus, store: Store, serve: Callable[..., Any]
) -> None:
    learner = TinyPublisher(store)
    learner.publish(1)
    learner.plan(1)
    port = free_port()

    def ask() -> tuple[bool, float]:
        """Returns whether a request is answered, and its seconds."""
        begun_s = time.monotonic()
        try:
            status = httpx2.post(f"http://127.0.0.1:{port}/v1/predict", json={"text": "hello"}, timeout=60).status_code
        except httpx2.TransportError:
            status = 0
        return status == httpx2.codes.OK, time.monotonic() - begun_s

    with serve(port, replicas=2) as served:
        eventually(lambda: len(store.reports.replicas()) == 2, within_s=120)
        events = [Event(id=f"e{index}", text="hello", key=f"k{index}") for index in range(400)]
        send(bus, events[:200])
        killed_s = time.monotonic()
        for replica in served.replicas:
            replica.send_signal(signal.SIGKILL)
        send(bus, events[200:])
        failed_s: list[float] = []
        while True:
            is_answered, took_s = ask()
            if is_answered:
                break
            failed_s.append(took_s)
            time.sleep(0.05)
        back_s = time.monotonic() - killed_s
        print(f"back after {back_s:.1f} s; {len(failed_s)} requests failed, within {max(failed_s):.3f} s at most")
        await_answers(bus, {event.id for event in events})
    assert max(failed_s) <= ERROR_S
    assert back_s <= BACK_S
