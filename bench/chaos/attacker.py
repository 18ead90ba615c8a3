"""Simulates an attacker: a client with one API key (roles predict and feedback) that sends forbidden requests.

    Attacker(url, key, seed).run(until) --HTTP--> the service;  sent and accepted requests --> AttackReport

| attack | request | required outcome |
|---|---|---|
| foreign_source | an event with the source and the id of a victim's event | answered under the attacker's own name |
| forged_receipt | a label for a victim's event, with a random receipt | 422 |
| stolen_receipt | a label for a victim's event, with the receipt of the attacker's own event | 422 |
| no_receipt | a label for a victim's event, without a receipt | accepted; a learner that requires receipts refuses it |
| correction | a label that replaces the label of a victim | 403 |
| no_key, cross_origin | a label without a key, as a web page of another origin sends it | 401 or 403 |
| flip | a wrong label for the attacker's own event, with its receipt | accepted; its influence is limited to a share |
| flood | as many events as a request may have | answered or 429; other clients still get answers |
"""

import http.client
import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from bench.chaos.ledger import IDS
from evals.load.asker import send_request

PAUSE_S: Final = 0.05
"""The pause between two attacks."""

FLOOD: Final = 64
"""The number of events in one request of a flood."""

MARK: Final = "attack"
"""The prefix of the ids of the attacker's own events and of all its texts."""

MAX_LABELS: Final = 100_000
"""The largest number of accepted labels, and of breaches, that are remembered."""


@dataclass(frozen=True, slots=True)
class TakenLabel:
    """A label of the attacker that the service accepted, and the attack that sent it."""

    attack: str
    event_id: str
    label: str


@dataclass(slots=True)
class AttackReport:
    """The result of an attack: requests and accepted requests (200) by attack.

    `breaches` lists forbidden requests that were accepted.
    """

    requests: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    labels: list[TakenLabel] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)
    num_unreachable: int = 0


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A response: its status, and its body if that is a JSON object, else an empty dictionary."""

    status: int
    body: dict[str, Any]

    @property
    def is_taken(self) -> bool:
        return self.status == HTTPStatus.OK


class Attacker:
    """An attacker. `victims` is the source of the victims' events; `victim_id` maps an event's number to its id."""

    def __init__(
        self,
        url: str,
        key: str,
        seed: int,
        *,
        victims: str = IDS.run,
        victim_id: Callable[[int], str] = IDS.of,
    ) -> None:
        self._address = urlsplit(url).netloc
        self._key = key
        self._rng = random.Random(seed)
        self._victims = victims
        self._victim_id = victim_id
        self._num_own = 0
        self._report = AttackReport()
        self._attacks: dict[str, Callable[[], None]] = {
            "foreign_source": self._foreign_source,
            "forged_receipt": lambda: self._label_victim("forged_receipt", receipt=self._random_receipt()),
            "stolen_receipt": self._stolen_receipt,
            "no_receipt": lambda: self._label_victim("no_receipt"),
            "correction": lambda: self._label_victim("correction", correct=True),
            "no_key": lambda: self._send_as_web_page("no_key", {"content-type": "application/json"}),
            "cross_origin": lambda: self._send_as_web_page(
                "cross_origin", {"content-type": "text/plain", "origin": "https://evil.example"}
            ),
            "flip": self._flip,
            "flood": self._flood,
        }

    def run(self, until: threading.Event) -> AttackReport:
        """Runs every attack once, and then random attacks until the event is set. Returns the report."""
        names = list(self._attacks)
        for name in names:
            self._attempt(name)
        while not until.wait(PAUSE_S):
            self._attempt(self._rng.choice(names))
        return self._report

    def _attempt(self, name: str) -> None:
        try:
            self._attacks[name]()
        except (OSError, http.client.HTTPException):
            self._report.num_unreachable += 1

    def _foreign_source(self) -> None:
        event = {
            "specversion": "1.0",
            "type": "lifelong.event.v1",
            "id": self._victim(),
            "source": self._victims,
            "data": {"text": f"{MARK}: I love pizza"},
        }
        reply = self._post("foreign_source", "/v1/events", event, {"content-type": "application/cloudevents+json"})
        if reply.is_taken and reply.body.get("source") == self._victims:
            self._breach("foreign_source", f"{event['id']} was answered as an event of {self._victims!r}")

    def _stolen_receipt(self) -> None:
        answer = self._ask()
        if answer:
            self._label_victim("stolen_receipt", receipt=answer["receipt"], key=answer["key"])

    def _label_victim(self, attack: str, **fields: Any) -> None:
        label = {"event_id": self._victim(), "label": MARK, "event_source": self._victims, **fields}
        reply = self._post(attack, "/v1/feedback", label)
        self._note(attack, label, reply)
        if reply.is_taken and attack != "no_receipt":
            self._breach(attack, f"a label for {label['event_id']} was taken")

    def _send_as_web_page(self, attack: str, headers: dict[str, str]) -> None:
        label = {"event_id": self._victim(), "label": MARK, "text": f"{MARK}: taught by a page"}
        reply = self._post(attack, "/v1/feedback", label, headers, has_key=False)
        self._note(attack, label, reply)
        if reply.is_taken:
            self._breach(attack, f"a label for {label['event_id']} was taken without a key")

    def _flip(self) -> None:
        answer = self._ask()
        if answer is None:
            return
        others = [name for name, _ in answer.get("scores", ()) if name != answer["label"]]
        if not others:
            return
        label = {
            "event_id": answer["event_id"],
            "event_source": answer["source"],
            "key": answer["key"],
            "receipt": answer["receipt"],
            "label": self._rng.choice(others),
        }
        self._note("flip", label, self._post("flip", "/v1/feedback", label))

    def _flood(self) -> None:
        self._post("flood", "/v1/predict", {"events": [self._own_event() for _ in range(FLOOD)]})

    def _ask(self) -> dict[str, Any] | None:
        """Sends an event of its own; returns the answer, or None if there is none."""
        reply = self._post("ask", "/v1/predict", {"events": [self._own_event()]})
        answer: dict[str, Any] = (reply.body.get("answers") or [{}])[0]
        return answer if reply.is_taken and "receipt" in answer else None

    def _own_event(self) -> dict[str, str]:
        self._num_own += 1
        return {"id": f"{MARK}-{self._num_own}", "text": f"{MARK}: event {self._num_own}"}

    def _victim(self) -> str:
        return self._victim_id(self._rng.randrange(10_000))

    def _random_receipt(self) -> str:
        return self._rng.randbytes(48).hex()

    def _note(self, attack: str, label: dict[str, Any], reply: HttpAnswer) -> None:
        if reply.is_taken and len(self._report.labels) < MAX_LABELS:
            self._report.labels.append(TakenLabel(attack, label["event_id"], label["label"]))

    def _breach(self, attack: str, what: str) -> None:
        if len(self._report.breaches) < MAX_LABELS:
            self._report.breaches.append(f"{attack}: {what}")

    def _post(
        self, attack: str, path: str, body: object, headers: dict[str, str] | None = None, *, has_key: bool = True
    ) -> HttpAnswer:
        """Sends a request, with the API key unless `has_key` is False. Counts the request and its outcome."""
        sent = dict(headers or {})
        if has_key:
            sent["x-api-key"] = self._key
        self._report.requests[attack] += 1
        reply = send_request(self._address, path, body, sent)
        self._report.statuses[reply.status] += 1
        self._report.taken[attack] += reply.status == HTTPStatus.OK
        try:
            decoded = json.loads(reply.body)
        except ValueError:
            decoded = None
        return HttpAnswer(reply.status, decoded if isinstance(decoded, dict) else {})
