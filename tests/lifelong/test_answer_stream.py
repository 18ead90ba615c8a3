"""The iterator over the topic of answers: it starts where `begin` says, and ends when the client is closed."""

import asyncio
import threading
import time
from typing import Any

import msgspec
import pytest

from lifelong import Answer, AsyncClient, Client, ServiceUnavailable
from lifelong.answer_stream import bus_config, to_client_error
from services.local.children import free_port
from tests.wire.samples import SAMPLES
from wire.bus import Bus
from wire.config import BusConfig
from wire.errors import BusUnauthorized, TopicMissing

NOBODY = "http://127.0.0.1:9"
TANSU = pytest.mark.parametrize("broker", ["tansu"], indirect=True)


def settings_for(config: BusConfig) -> dict[str, Any]:
    return {"bootstrap_servers": config.bootstrap_servers, "prefix": config.prefix}


def send(bus: Bus, *event_ids: str) -> None:
    (sample,) = (each for each in SAMPLES if isinstance(each, Answer))
    bus.publisher().send_all([msgspec.structs.replace(sample, event_id=each) for each in event_ids], 30)


@pytest.mark.alone
@pytest.mark.live
@TANSU
def test_answers_are_iterated_over_until_the_client_is_closed(bus: Bus, bus_config: BusConfig) -> None:
    send(bus, "e1", "e2")
    bus_settings = settings_for(bus_config)
    client = Client(NOBODY)
    assert {answer.event_id for answer in client.answers(bus_settings, begin="earliest", idle_s=2)} == {"e1", "e2"}
    latest = client.answers(bus_settings)
    send(bus, "e3")
    assert next(latest).event_id == "e3"
    threading.Timer(0.5, client.close).start()
    begun_s = time.monotonic()
    assert list(latest) == []
    assert time.monotonic() - begun_s < 5


@pytest.mark.live
@TANSU
def test_asyncio_iterates_and_ends_with_the_loop(bus: Bus, bus_config: BusConfig) -> None:
    send(bus, "e1", "e2", "e3")

    async def first_two() -> list[str]:
        found: list[str] = []
        async with AsyncClient(NOBODY) as client:
            async for answer in client.answers(settings_for(bus_config), begin="earliest"):
                found.append(answer.event_id)
                if len(found) == 2:
                    break
        return found

    assert set(asyncio.run(first_two())) < {"e1", "e2", "e3"}


def test_an_unreachable_broker_and_invalid_settings_are_named() -> None:
    address = f"127.0.0.1:{free_port()}"
    quick = {"bootstrap_servers": address, "client": {"request_timeout_ms": 600}}
    with Client(NOBODY, timeout_s=0.5) as client, pytest.raises(ServiceUnavailable, match=address) as caught:
        client.answers(quick)
    assert caught.value.code == "broker_unreachable"
    for settings, why in (({}, "is required"), ({"bootstrap_server": "h:1"}, "bootstrap_server: Unexpected")):
        with pytest.raises(ValueError, match=why):
            bus_config(settings)


def test_errors_of_the_broker_have_their_own_codes() -> None:
    errors = (TopicMissing("t"), BusUnauthorized("t"))
    codes = [to_client_error(error).code for error in errors]
    assert codes == ["topic_missing", "broker_refused"]
