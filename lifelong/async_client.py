"""The client for asyncio: the calls of `lifelong.client`, to be awaited."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Self, TypeVar

import httpx2

from lifelong.calls import Label, Labels, ServedAnswer
from lifelong.client import READY_PATH, ClientConnection, one, reply_of, unreachable
from lifelong.errors import ClientError, ServiceUnavailable
from lifelong.exchange import Attempt, Exchange, next_step
from lifelong.replies import HttpReply
from wire.inputs import Features, Part
from wire.records import Answer, Event, Feedback

T = TypeVar("T")


class AsyncClient(ClientConnection):
    """The client for asyncio: the same calls as those of `Client`, to be awaited. It belongs to one event loop."""

    _open = httpx2.AsyncClient
    _http: httpx2.AsyncClient

    async def predict(
        self,
        text: str = "",
        *,
        key: str = "",
        event_id: str = "",
        features: Features | None = None,
        parts: Sequence[Part] = (),
        tasks: Sequence[str] = (),
    ) -> ServedAnswer:
        """Returns the answer to a text, features, parts, or several of them, as `Client.predict` does."""
        event = Event(id=event_id, text=text, key=key, features=features or {}, parts=tuple(parts), tasks=tuple(tasks))
        (answer,) = await self.predict_many([event])
        return one(answer)

    async def predict_many(self, events: Iterable[str | Event]) -> list[ServedAnswer | ClientError]:
        """Returns an answer for each event, as `Client.predict_many` does."""
        return await self._run(self._calls.predict(events))

    async def feedback(
        self, answer: Answer | str, label: Label, *, correct: bool = False, task: str | None = None
    ) -> Feedback:
        """Sends the label of an answer, as `Client.feedback` does."""
        (taken,) = await self.feedback_many([(answer, label)], correct=correct, task=task)
        return one(taken)

    async def feedback_many(
        self, labels: Labels, *, correct: bool = False, task: str | None = None
    ) -> list[Feedback | ClientError]:
        """Returns each label as it was taken, as `Client.feedback_many` does."""
        return await self._run(self._calls.feedback(labels, correct=correct, task=task))

    async def answers(
        self, bus: Mapping[str, Any], *, begin: str = "latest", idle_s: float | None = None
    ) -> AsyncIterator[Answer]:
        """Iterates over the answers to all events, as `Client.answers` does, from its first step on."""
        stream = await asyncio.to_thread(self._streams.open, bus, begin, idle_s)
        try:
            while (batch := await asyncio.to_thread(stream.read)) is not None:
                for answer in batch:
                    self._calls.keep(answer)
                    yield answer
        finally:
            await asyncio.to_thread(stream.close)

    async def is_ready(self) -> bool:
        """Whether the service can be reached, and answers."""
        try:
            return (await self._http.get(READY_PATH)).status_code == HTTPStatus.OK
        except httpx2.RequestError:
            return False

    async def close(self) -> None:
        """Closes the connections, and ends the iterations over answers."""
        await asyncio.to_thread(self._streams.close)
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, exchange: Exchange[T]) -> T:
        reply: HttpReply | ServiceUnavailable | None = None
        while isinstance(step := next_step(exchange, reply), Attempt):
            await asyncio.sleep(step.pause_s)
            try:
                reply = reply_of(await self._http.send(self._request(step)))
            except httpx2.RequestError as error:
                reply = unreachable(error)
        return step.result
