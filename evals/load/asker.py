"""HTTP clients that ask for the answer to an event until a reply comes.

If the connection is refused or lost, the request is repeated once immediately, as `wget` and load balancers do. A
prediction is idempotent, because its event has an id. If the second attempt fails, the failure is reported and the
request is tried again after a pause.
"""

import http.client
import json
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from evals.load.labeller import Reply
from evals.load.sender import PAUSE_S

TIMEOUT_S = 10.0


class HttpReply(NamedTuple):
    """The status and the body of an HTTP response."""

    status: int
    body: bytes


def send_request(
    address: str,
    path: str,
    body: object,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "POST",
    timeout_s: float = TIMEOUT_S,
) -> HttpReply:
    """Sends a request on a new connection to `address` (`host:port`) and returns the response.

    `body` is sent as JSON (None: no body). Raises OSError and http.client.HTTPException.
    """
    content = None if body is None else json.dumps(body).encode()
    connection = http.client.HTTPConnection(address, timeout=timeout_s)
    try:
        connection.request(method, path, content, {"content-type": "application/json"} | dict(headers or {}))
        response = connection.getresponse()
        return HttpReply(response.status, response.read())
    finally:
        connection.close()


class RequestFailed(Exception):
    """The request got no answer, also after a retry if one was allowed. The message says why."""


def predict(address: str, body: dict[str, str], api_key: str = "") -> Reply:
    """Asks the service at `address` for a prediction. Asks a second time if the connection was refused or lost.

    Raises RequestFailed.
    """
    # BadStatusLine means that the server closed the connection without a reply.
    try:
        return _ask(address, body, api_key)
    except (ConnectionError, http.client.BadStatusLine):
        pass
    try:
        return _ask(address, body, api_key)
    except (ConnectionError, http.client.BadStatusLine) as error:
        raise RequestFailed(type(error).__name__) from error


def _ask(address: str, body: dict[str, str], api_key: str) -> Reply:
    try:
        status, content = send_request(address, "/v1/predict", body, {"x-api-key": api_key})
    except TimeoutError as error:
        raise RequestFailed(f"no reply within {TIMEOUT_S:g} s") from error
    if status != http.client.OK:
        raise RequestFailed(f"{status} {content[:200].decode(errors='replace')}")
    answer: dict[str, Any] = json.loads(content)["answers"][0]
    return Reply(
        answer["event_id"],
        answer["key"],
        answer["receipt"],
        answer.get("source"),
        answer["rollout_revision"],
        answer.get("can_be_labelled", True),
    )


class Replies(Protocol):
    """Receives the replies and the failures of requests. `begun_s` is when the request was sent."""

    def replied(self, number: int, begun_s: float, reply: Reply) -> None: ...

    def failed(self, why: str) -> None: ...


class Asker:
    """Asks for the answers to the events in a queue. Several askers run in parallel, each in a thread of its own."""

    def __init__(
        self,
        numbers: "queue.Queue[int]",
        body_of: Callable[[int], dict[str, str]],
        replies: Replies,
        *,
        address: Callable[[], str],
        api_key: str,
    ) -> None:
        self._numbers = numbers
        self._body_of = body_of
        self._replies = replies
        self._address = address
        self._api_key = api_key
        self._closed = threading.Event()

    def run(self) -> None:
        """Asks for the answer to each event in the queue, until the asker is closed.

        consumes: numbers of events; produces: replies
        waits for: a number, a reply; unblocked by: either, its time limit, `close`
        """
        while not self._closed.is_set():
            try:
                number = self._numbers.get(timeout=PAUSE_S)
            except queue.Empty:
                continue
            self._ask(number)

    def close(self) -> None:
        self._closed.set()

    def _ask(self, number: int) -> None:
        body = self._body_of(number)
        while not self._closed.is_set():
            begun_s = time.monotonic()
            try:
                reply = predict(self._address(), body, self._api_key)
            except RequestFailed as error:
                self._replies.failed(str(error))
                self._closed.wait(PAUSE_S)
            else:
                self._replies.replied(number, begun_s, reply)
                return
