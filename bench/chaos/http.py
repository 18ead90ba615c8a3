"""A client of /v1/predict that repeats a request once where the connection was refused or lost, and is patient else.

A prediction changes nothing, and its event has an id, so it may be repeated; `wget` and every load balancer do so.
"""

import http.client
import json
from dataclasses import dataclass

TIMEOUT_S = 10.0


class Failed(Exception):
    """No answer, although the request was repeated; the message says why."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What feedback gives back, and whether it may: an answer that cannot be published says so."""

    event_id: str
    key: str
    receipt: str
    source: str | None
    can_be_labelled: bool = True


def predict(host: str, port: int, body: dict[str, str]) -> Reply:
    """Asks once, and once more where the connection was refused or lost. Raises Failed."""
    content = json.dumps(body).encode()
    try:
        return _ask(host, port, content)
    except (ConnectionError, http.client.BadStatusLine):  # BadStatusLine: closed without a reply
        pass
    try:
        return _ask(host, port, content)
    except (ConnectionError, http.client.BadStatusLine) as error:
        raise Failed(type(error).__name__) from error


def _ask(host: str, port: int, content: bytes) -> Reply:
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", "/v1/predict", content, {"content-type": "application/json"})
        response = connection.getresponse()
        said = response.read()
    except TimeoutError as error:
        raise Failed(f"no reply within {TIMEOUT_S:g} s") from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise Failed(f"{response.status} {said[:200].decode(errors='replace')}")
    answer = json.loads(said)["answers"][0]
    can_be_labelled = answer.get("can_be_labelled", True)
    return Reply(answer["event_id"], answer["key"], answer["receipt"], answer.get("source"), can_be_labelled)
