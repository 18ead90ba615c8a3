"""Calls /v1/predict, and repeats a request once where the connection was refused or lost.

A prediction is idempotent, since its event has an id, so it may be repeated; `wget` and every load balancer do so.
"""

import http.client
import json
from dataclasses import dataclass

TIMEOUT_S = 10.0


class Failed(Exception):
    """The request got no answer, although it was repeated where that is allowed. The message says why."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The fields of an answer that feedback must repeat."""

    event_id: str
    key: str
    receipt: str
    source: str | None
    revision: int = 0
    """That of the plan which the answer was given under."""
    can_be_labelled: bool = True
    """False where the answer could not be published, so that a label would not find it."""


def predict(host: str, port: int, body: dict[str, str], api_key: str = "") -> Reply:
    """Sends a request, and once more where the connection was refused or lost. Raises Failed."""
    content = json.dumps(body).encode()
    try:
        return _ask(host, port, content, api_key)
    except (ConnectionError, http.client.BadStatusLine):  # BadStatusLine: closed without a reply
        pass
    try:
        return _ask(host, port, content, api_key)
    except (ConnectionError, http.client.BadStatusLine) as error:
        raise Failed(type(error).__name__) from error


def _ask(host: str, port: int, body: bytes, api_key: str) -> Reply:
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", "/v1/predict", body, {"content-type": "application/json", "x-api-key": api_key})
        response = connection.getresponse()
        content = response.read()
    except TimeoutError as error:
        raise Failed(f"no reply within {TIMEOUT_S:g} s") from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise Failed(f"{response.status} {content[:200].decode(errors='replace')}")
    answer = json.loads(content)["answers"][0]
    can_be_labelled = answer.get("can_be_labelled", True)
    return Reply(
        answer["event_id"],
        answer["key"],
        answer["receipt"],
        answer.get("source"),
        answer["rollout_revision"],
        can_be_labelled,
    )
