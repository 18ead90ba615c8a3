"""The client for asyncio against a running service: it has the same methods as the blocking client."""

import asyncio

import pytest

from lifelong import AsyncClient, Feedback, RequestInvalid, ServedAnswer, ServiceUnavailable
from tests.serving.kafka.fake_broker import FakeBroker


def test_asyncio_has_the_same_calls(url: str, fake_broker: FakeBroker) -> None:
    async def ask() -> list[ServedAnswer]:
        async with AsyncClient(url, timeout_s=5) as client:
            assert await client.is_ready()
            answers = await asyncio.gather(*(client.predict(f"text {number}", key="k") for number in range(20)))
            await client.feedback(answers[0], "first")
            await client.feedback(answers[1].event_id, "second")
            with pytest.raises(RequestInvalid, match="blank"):
                await client.predict("")
            return answers

    answers = asyncio.run(ask())
    assert [answer.text for answer in answers] == [f"text {number}" for number in range(20)]
    assert [record.label for record, _ in fake_broker.sent if isinstance(record, Feedback)] == ["first", "second"]


def test_asyncio_names_an_unreachable_service() -> None:
    async def ask() -> None:
        async with AsyncClient("http://127.0.0.1:9", timeout_s=0.3) as client:
            assert not await client.is_ready()
            await client.predict("hello")

    with pytest.raises(ServiceUnavailable, match="unreachable"):
        asyncio.run(ask())
