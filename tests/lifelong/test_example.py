"""Plays the example of docs/operate/events.md: a client writes an event and a label, and reads the answer."""

import re
from contextlib import closing
from threading import Thread
from typing import Any

import pytest

from services.local.kafka import LocalBroker
from services.versions import ROOT
from tests.brokers import take
from tests.wire.samples import answer_to
from wire.bus import Bus
from wire.config import BusConfig
from wire.records import Event, Feedback

EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.mark.live
def test_the_example_is_understood(broker: LocalBroker) -> None:
    (example,) = EXAMPLE.findall((ROOT / "docs" / "operate" / "events.md").read_text())
    variables: dict[str, Any] = {"broker": broker.bootstrap_servers}
    client = Thread(target=exec, args=(example, variables))
    with closing(Bus(BusConfig(bootstrap_servers=broker.bootstrap_servers), client_id="service")) as bus:
        bus.create_topics()
        client.start()
        (event,) = [each.record for each in take(bus.follow([Event], {}).poll, 1)]
        assert event == Event(id="e-17", text="where is my parcel", source="shop", time_ms=event.time_ms)
        answer = answer_to(event.id, text=event.text, source=event.source, receipt="a receipt")
        publisher = bus.publisher()
        publisher.send(answer, lambda error: None)
        publisher.flush(30)
        (label,) = [each.record for each in take(bus.follow([Feedback], {}).poll, 1)]
        client.join()
    variables["producer"].close()
    variables["consumer"].close()
    assert label == Feedback(
        event_id="e-17",
        label="delivery",
        source="desk",
        event_source="shop",
        receipt="a receipt",
        time_ms=label.time_ms,
    )
