"""The client for asyncio: the methods of `lifelong.client.Client` as coroutines."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Self, TypeVar

import httpx2

from lifelong.calls import Label, Labels, ServedAnswer
from lifelong.client import READY_PATH, ClientConnection, to_reply, unreachable, unwrap
from lifelong.errors import ClientError, ServiceUnavailable
from lifelong.exchange import Attempt, Exchange, next_step
from lifelong.media.parts import File, PixelArray, media_parts
from lifelong.replies import HttpReply
from wire.inputs import Features, Part
from wire.records import Answer, Event, Feedback

T = TypeVar("T")


class AsyncClient(ClientConnection):
    """The client for asyncio: the methods of `Client` as coroutines. Use it in one event loop only."""

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
        image: File | PixelArray | None = None,
        audio: File | None = None,
    ) -> ServedAnswer:
        """Returns the answer to one event, as `Client.predict` does."""
        event = Event(
            id=event_id,
            text=text,
            key=key,
            features=features or {},
            parts=(*parts, *media_parts(image, audio)),
            tasks=tuple(tasks),
        )
        (answer,) = await self.predict_many([event])
        return unwrap(answer)

    async def predict_many(self, events: Iterable[str | Event]) -> list[ServedAnswer | ClientError]:
        """Returns an answer or an error for each event, as `Client.predict_many` does."""
        return await self._run(self._calls.predict(events))

    async def feedback(
        self, answer: Answer | str, label: Label, *, correct: bool = False, task: str | None = None
    ) -> Feedback:
        """Sends the label of an answer, as `Client.feedback` does."""
        (accepted,) = await self.feedback_many([(answer, label)], correct=correct, task=task)
        return unwrap(accepted)

    async def feedback_many(
        self, labels: Labels, *, correct: bool = False, task: str | None = None
    ) -> list[Feedback | ClientError]:
        """Returns the accepted label or an error for each label, as `Client.feedback_many` does."""
        return await self._run(self._calls.feedback(labels, correct=correct, task=task))

    async def answers(
        self, bus: Mapping[str, Any], *, begin: str = "latest", idle_s: float | None = None
    ) -> AsyncIterator[Answer]:
        """Iterates over the topic of answers, as `Client.answers` does. The first step connects to the broker."""
        stream = await asyncio.to_thread(self._streams.open, bus, begin, idle_s)
        try:
            while (batch := await asyncio.to_thread(stream.read)) is not None:
                for answer in batch:
                    self._calls.keep(answer)
                    yield answer
        finally:
            await asyncio.to_thread(stream.close)

    async def is_ready(self) -> bool:
        """Whether the service is reachable and ready to answer."""
        try:
            return (await self._http.get(READY_PATH)).status_code == HTTPStatus.OK
        except httpx2.RequestError:
            return False

    async def close(self) -> None:
        """Closes the connections and ends all iterations over answers."""
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
                reply = to_reply(await self._http.send(self._request(step)))
            except httpx2.RequestError as error:
                reply = unreachable(error)
        return step.result
