"""Replicas on a real Ray Serve that come and go with the lag of Kafka."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil
import pytest

from serving.scaling import ScalingConfig
from tests.serving.test_app import Served, await_answers, free_port, send
from tests.serving.test_app import serve as serve
from tests.serving.versions import TinyPublisher
from tests.waiting import eventually
from wire.bus import Bus
from wire.records import Event
from wire.store import Store

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.parametrize("broker", ["tansu"], indirect=True)]


def num_replicas(served: Served) -> int:
    """Returns how many replicas run; one that ends just now counts for none."""
    num = 0
    for child in served.children:
        with suppress(psutil.Error):
            num += "ServeReplica" in " ".join(child.cmdline())
    return num


def test_replicas_come_while_events_wait_in_kafka_and_go_again(
    bus: Bus, store: Store, serve: Callable[..., Any]
) -> None:
    learner = TinyPublisher(store)
    learner.publish(1)
    learner.plan(1)
    scaling = ScalingConfig(max_replicas=2, lag_per_replica=100, up_after_s=0.0, down_after_s=2.0)
    with serve(free_port(), replicas=1, scaling=scaling) as served:
        eventually(lambda: len(store.reports.replicas()) == 1, within_s=60)
        events = [Event(id=f"e{index}", text="hello " * 200, key=f"k{index}") for index in range(10_000)]
        send(bus, events)
        eventually(lambda: num_replicas(served) == 2, within_s=60)
        await_answers(bus, {event.id for event in events})
        eventually(lambda: num_replicas(served) == 1, within_s=120)  # the last minute must have been quiet
        after = [Event(id="after", text="hello", key="k")]
        send(bus, after)
        await_answers(bus, {"after"})
