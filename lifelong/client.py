"""The blocking client of the service, and the base class that it shares with `AsyncClient`.

    Client --calls--> attempts --httpx2--> /v1/predict, /v1/feedback, /v1/health/ready
           <--answers to all events-- AnswerStreams, answer_stream <-- the topic of answers

`async_client.AsyncClient` has the same methods for asyncio.

The Kafka library is imported when the first iteration over answers begins.
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
from lifelong.media.parts import File, PixelArray, media_parts
from lifelong.replies import HttpReply
from wire.inputs import Features, Part
from wire.records import Answer, Event, Feedback

if TYPE_CHECKING:
    from lifelong.answer_stream import AnswerStream


READY_PATH: Final = "/v1/health/ready"

ACCEPT_HEADER: Final = "application/problem+json, application/json"

DEADLINE_FRACTION: Final = 0.9
"""The fraction of the response timeout that is sent to the service as its deadline.

The service gives up before the client does, so the caller gets the service's error instead of a client timeout.
"""

MAX_DEADLINE_MS: Final = 3_600_000
"""The longest deadline that is sent to the service."""

T = TypeVar("T")


class ClientConnection:
    """The base of both clients: holds the HTTP connections and turns an attempt into a request."""

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
        """Creates a client; the first call connects. Raises ValueError if `url` is not an HTTP or HTTPS URL.

        - `url`: the address of the service, without the path of an endpoint
        - `api_key`: the key that the service asks for
        - `timeout_s`: the deadline of a call, including all retries
        - `attempt_timeout_s`: the timeout of one request
        - `max_entries`: the most events or labels in one request. A longer call sends several requests, one after
          another. The service accepts 256.
        - `max_receipts`: how many receipts are kept. The answers of these receipts can be labelled by their event ids.
        - `tls`: a context with your own certificates
        """
        if httpx2.URL(url).scheme not in ("http", "https"):
            raise ValueError(f"{url!r} is not the URL of a service: use http://host:port or https://host")
        policy = ExchangePolicy(timeout_s=timeout_s, attempt_timeout_s=attempt_timeout_s, max_entries=max_entries)
        headers = {"accept": ACCEPT_HEADER, "content-type": "application/json"}
        if api_key is not None:
            headers["x-api-key"] = api_key
        self._calls = Calls(policy, max_receipts=max_receipts)
        self._streams = AnswerStreams(retry_timeout_s=timeout_s)
        verify = True if tls is None else tls
        self._http = self._open(base_url=url, headers=headers, timeout=attempt_timeout_s, verify=verify)

    def _request(self, attempt: Attempt) -> httpx2.Request:
        deadline_ms = int(1e3 * DEADLINE_FRACTION * attempt.timeout_s)
        headers = {"x-request-timeout-ms": str(min(max(deadline_ms, 1), MAX_DEADLINE_MS))}
        return self._http.build_request(
            "POST", attempt.path, content=attempt.body, headers=headers, timeout=attempt.timeout_s
        )


class Client(ClientConnection):
    """The blocking client: asks for answers and sends labels. Thread-safe.

    Failed connections and temporary refusals are retried until the deadline. Before each retry the client waits for the
    `Retry-After` of the service plus an exponential back-off with jitter. An event without an id gets one, so a retried
    event is the same event to the service. A retried label counts once.
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
        image: File | PixelArray | None = None,
        audio: File | None = None,
    ) -> ServedAnswer:
        """Returns the answer to one event. The event needs a text, features, or parts.

        Raises ClientError, and OSError for a file that cannot be read.

        - `key`: the entity that the event is about, such as a customer
        - `event_id`: the id of the event; a random one by default
        - `parts`: objects whose `type` is an input that is installed at the service
        - `tasks`: the tasks that answer; all of them by default
        - `image`: a picture: PNG, the path of a PNG, or an array of pixels, uint8 [H, W] or [H, W, 3]
        - `audio`: a sound: WAV, or the path of a WAV
        """
        event = Event(
            id=event_id,
            text=text,
            key=key,
            features=features or {},
            parts=(*parts, *media_parts(image, audio)),
            tasks=tuple(tasks),
        )
        (answer,) = self.predict_many([event])
        return unwrap(answer)

    def predict_many(self, events: Iterable[str | Event]) -> list[ServedAnswer | ClientError]:
        """Returns a list with an answer or an error for each event, in order. Raises ClientError if all are errors.

        All fields of an Event are sent except its time and its headers. Raises ValueError for an event with another
        source than "http".
        """
        return self._run(self._calls.predict(events))

    def feedback(
        self, answer: Answer | str, label: Label, *, correct: bool = False, task: str | None = None
    ) -> Feedback:
        """Sends the label of an answer and returns the label once the broker has it. Raises ClientError.

        The `source` of the returned label is the name by which the service knows this client.

        - `answer`: the answer, or the id of its event
        - `label`: one class, a list for a set of classes, or a number for a score
        - `correct`: whether the label replaces an earlier one, which needs an API key with the role `admin`
        - `task`: the task that the label is for; the task of the answer by default
        """
        (accepted,) = self.feedback_many([(answer, label)], correct=correct, task=task)
        return unwrap(accepted)

    def feedback_many(
        self, labels: Labels, *, correct: bool = False, task: str | None = None
    ) -> list[Feedback | ClientError]:
        """Returns a list with the accepted label or an error for each label, in order.

        Raises ClientError if all are errors.
        """
        return self._run(self._calls.feedback(labels, correct=correct, task=task))

    def answers(
        self, bus: Mapping[str, Any], *, begin: str = "latest", idle_s: float | None = None
    ) -> Iterator[Answer]:
        """Returns an iterator over the topic of answers, which has the answers to all events, from HTTP and Kafka.

        The iterator ends when no answer has come for `idle_s` seconds (None: no limit), or when the client is closed.
        An answer may come twice: compare the source and the id of its event. Receipts are kept as `predict` keeps them.
        Raises ClientError, and ValueError for invalid settings.

        - `bus`: the settings of the section `bus`, such as `bootstrap_servers` and `prefix`
        - `begin`: "latest" (from this call on), "earliest", or a time such as "2026-01-31T00:00:00Z"
        """
        return self._iterate(self._streams.open(bus, begin, idle_s))

    def _iterate(self, stream: "AnswerStream") -> Iterator[Answer]:
        try:
            while (batch := stream.read()) is not None:
                for answer in batch:
                    self._calls.keep(answer)
                    yield answer
        finally:
            stream.close()

    def is_ready(self) -> bool:
        """Whether the service is reachable and ready to answer."""
        try:
            return self._http.get(READY_PATH).status_code == HTTPStatus.OK
        except httpx2.RequestError:
            return False

    def close(self) -> None:
        """Closes the connections and ends all iterations over answers."""
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
                reply = to_reply(self._http.send(self._request(step)))
            except httpx2.RequestError as error:
                reply = unreachable(error)
        return step.result


def to_reply(response: httpx2.Response) -> HttpReply:
    return HttpReply(response.status_code, response.headers, response.content)


def unreachable(error: httpx2.RequestError) -> ServiceUnavailable:
    reason = str(error) or type(error).__name__
    return ServiceUnavailable(
        f"no response from {error.request.url.copy_with(query=None)}: {reason}", code="unreachable"
    )


def unwrap(result: T | ClientError) -> T:
    """Returns a result that is not an error. Raises a result that is one."""
    if isinstance(result, ClientError):
        raise result
    return result


class AnswerStreams:
    """Opens the streams of answers of a client and closes them together. References to them are weak."""

    def __init__(self, *, retry_timeout_s: float) -> None:
        """`retry_timeout_s` is how long a stream retries while no broker is reachable."""
        self._retry_timeout_s = retry_timeout_s
        self._opened: weakref.WeakSet[AnswerStream] = weakref.WeakSet()

    def open(self, bus: Mapping[str, Any], begin: str, idle_s: float | None) -> "AnswerStream":
        """Returns a new stream. Raises ClientError, and ValueError for invalid settings."""
        # Few clients read the topic, and the Kafka library is slow to import.
        from lifelong.answer_stream import AnswerStream, bus_config

        stream = AnswerStream(bus_config(bus), begin, retry_timeout_s=self._retry_timeout_s, idle_s=idle_s)
        self._opened.add(stream)
        return stream

    def close(self) -> None:
        """Closes the streams, which ends the iterations over them. Thread-safe."""
        for stream in list(self._opened):
            stream.close()
