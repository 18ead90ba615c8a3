"""The client of the service that waits.

    Client --calls--> attempts --httpx2--> /v1/predict, /v1/feedback, /v1/health/ready
           <--answers, of all events-- Streams, answer_stream <-- the topic of answers

`AsyncClient` of `async_client` is one of the same calls for asyncio.

The client of Kafka is imported when the first iteration over answers begins.
"""

import ssl
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypeVar

import httpx2

from lifelong.calls import Calls, Label, Labels, ServedAnswer
from lifelong.errors import ClientError, ServiceUnavailable
from lifelong.exchange import Attempt, Exchange, ExchangePolicy, next_step
from lifelong.replies import HttpReply
from wire.inputs import Features, Part
from wire.records import Answer, Event, Feedback

if TYPE_CHECKING:
    from lifelong.answer_stream import AnswerStream  # with the client of Kafka, which few need


READY_PATH: Final = "/v1/health/ready"

ACCEPTED: Final = "application/problem+json, application/json"

TOLD_SHARE: Final = 0.9
"""The service is told of so much of the time that a response may take, so that it is the one who says what is late."""

MAX_TOLD_MS: Final = 3_600_000

T = TypeVar("T")


class ClientConnection:
    """What both clients have in common: how they are made, and how an attempt becomes a request."""

    _open: ClassVar[type[httpx2.Client | httpx2.AsyncClient]]

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        attempt_timeout_s: float = 10.0,
        max_entries: int = 64,
        max_receipts: int = 10_000,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Connects to nothing yet. Raises ValueError where `url`, without the path of an endpoint, is none of HTTP.

        `timeout_s` is the deadline of a call with all of its attempts, `attempt_timeout_s` the longest that one of them
        waits. A call of many events or labels sends requests of at most `max_entries` (the service takes
        256), one after another. The receipts of the last `max_receipts` answers are kept,
        so that their ids are enough to label them. `tls` has certificates of one's own.
        """
        if httpx2.URL(url).scheme not in ("http", "https"):
            raise ValueError(f"{url!r} is no URL of a service: http://host:port or https://host")
        policy = ExchangePolicy(timeout_s=timeout_s, attempt_timeout_s=attempt_timeout_s, max_entries=max_entries)
        headers = {"accept": ACCEPTED, "content-type": "application/json"}
        if api_key is not None:
            headers["x-api-key"] = api_key
        self._calls = Calls(policy, max_receipts=max_receipts)
        self._streams = Streams(patience_s=timeout_s)
        verify = True if tls is None else tls
        self._http = self._open(base_url=url, headers=headers, timeout=attempt_timeout_s, verify=verify)

    def _request(self, attempt: Attempt) -> httpx2.Request:
        told_ms = int(1e3 * TOLD_SHARE * attempt.timeout_s)
        headers = {"x-request-timeout-ms": str(min(max(told_ms, 1), MAX_TOLD_MS))}
        return self._http.build_request(
            "POST", attempt.path, content=attempt.body, headers=headers, timeout=attempt.timeout_s
        )


class Client(ClientConnection):
    """Asks for answers and sends labels, and waits for what comes of it; any thread may use it.

    What the service refuses for now, and connections that fail, are tried again until the deadline: after the time that
    the service asks for, and a random pause that grows. Events get an id where they have none, so that an event that is
    asked again is the same one; a label counts once.
    """

    _open = httpx2.Client
    _http: httpx2.Client

    def predict(
        self,
        text: str = "",
        *,
        key: str = "",
        event_id: str = "",
        features: Features | None = None,
        parts: Sequence[Part] = (),
        tasks: Sequence[str] = (),
    ) -> ServedAnswer:
        """Returns the answer to a text, features, parts, or several of them, about the entity `key`, by these tasks
        (none: by all). A part is an object whose `type` is an input that is installed where the service runs.

        Raises ClientError.
        """
        event = Event(id=event_id, text=text, key=key, features=features or {}, parts=tuple(parts), tasks=tuple(tasks))
        (answer,) = self.predict_many([event])
        return one(answer)

    def predict_many(self, events: Iterable[str | Event]) -> list[ServedAnswer | ClientError]:
        """Returns an answer for each event, or in its place the error. Raises ClientError where all are errors.

        Of an Event all but its time and headers are sent. Raises ValueError for one with another source than "http".
        """
        return self._run(self._calls.predict(events))

    def feedback(
        self, answer: Answer | str, label: Label, *, correct: bool = False, task: str | None = None
    ) -> Feedback:
        """Sends the label of an answer, or of the event whose id is given; returns it when the broker has it.

        A set of labels is a list, a score a number. Its `source` is who the service says it is from. With `correct` it
        replaces an earlier label, which needs an API key with the role `admin`. It is of `task` (None: of that which
        the answer is of). Raises ClientError.
        """
        (taken,) = self.feedback_many([(answer, label)], correct=correct, task=task)
        return one(taken)

    def feedback_many(
        self, labels: Labels, *, correct: bool = False, task: str | None = None
    ) -> list[Feedback | ClientError]:
        """Returns each label as it was taken, or in its place the error. Raises ClientError where all are errors."""
        return self._run(self._calls.feedback(labels, correct=correct, task=task))

    def answers(
        self, bus: Mapping[str, Any], *, begin: str = "latest", idle_s: float | None = None
    ) -> Iterator[Answer]:
        """Returns an iterator over the answers to all events, by HTTP and Kafka, as they come to the topic.

        `bus` has the settings of the section of that name, such as `bootstrap_servers` and `prefix`. `begin` is latest
        (from this call on), earliest, or a time such as 2026-01-31T00:00:00Z. It ends where no answer came for `idle_s`
        seconds, or the client was closed; else never. Receipts are kept as those of `predict` are. An answer may come
        twice, by its event's source and id. Raises ClientError; ValueError for wrong settings.
        """
        return self._answers_of(self._streams.open(bus, begin, idle_s))

    def _answers_of(self, stream: "AnswerStream") -> Iterator[Answer]:
        try:
            while (batch := stream.read()) is not None:
                for answer in batch:
                    self._calls.keep(answer)
                    yield answer
        finally:
            stream.close()

    def is_ready(self) -> bool:
        """Whether the service can be reached, and answers."""
        try:
            return self._http.get(READY_PATH).status_code == HTTPStatus.OK
        except httpx2.RequestError:
            return False

    def close(self) -> None:
        """Closes the connections, and ends the iterations over answers."""
        self._streams.close()
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, exchange: Exchange[T]) -> T:
        reply: HttpReply | ServiceUnavailable | None = None
        while isinstance(step := next_step(exchange, reply), Attempt):
            time.sleep(step.pause_s)
            try:
                reply = reply_of(self._http.send(self._request(step)))
            except httpx2.RequestError as error:
                reply = unreachable(error)
        return step.result


def reply_of(response: httpx2.Response) -> HttpReply:
    return HttpReply(response.status_code, response.headers, response.content)


def unreachable(error: httpx2.RequestError) -> ServiceUnavailable:
    reason = str(error) or type(error).__name__
    return ServiceUnavailable(
        f"no response from {error.request.url.copy_with(query=None)}: {reason}", code="unreachable"
    )


def one(result: T | ClientError) -> T:
    """Returns the only result of a call. One that is an error was raised by the exchange, or is of another form."""
    if isinstance(result, ClientError):
        raise result
    return result


class Streams:
    """Opens streams of answers, and closes those that are still in use."""

    def __init__(self, *, patience_s: float) -> None:
        self._patience_s = patience_s
        self._opened: weakref.WeakSet[AnswerStream] = weakref.WeakSet()

    def open(self, bus: Mapping[str, Any], begin: str, idle_s: float | None) -> "AnswerStream":
        """Returns a new stream. Raises ValueError for wrong settings, and ClientError."""
        from lifelong.answer_stream import AnswerStream, bus_config

        stream = AnswerStream(bus_config(bus), begin, patience_s=self._patience_s, idle_s=idle_s)
        self._opened.add(stream)
        return stream

    def close(self) -> None:
        """Ends the iterations, from any thread."""
        for stream in list(self._opened):
            stream.close()
