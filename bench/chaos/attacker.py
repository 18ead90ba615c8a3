"""A client with one API key (roles predict and feedback) that tries to have answered and learnt what it may not.

    Attacker(url, key, seed).run(until) --HTTP--> the service;  what it tried, and what was taken --> Tried

| attack | what it sends | what has to become of it |
|---|---|---|
| foreign_source | an event under the source and the id of another's | it is answered below the attacker's own name |
| forged_receipt | a label for another's event, with a receipt that it made up | 422 |
| stolen_receipt | the same with the receipt of an event of its own | 422 |
| no_receipt | the same without a receipt | taken, and refused by a learner that requires receipts |
| correction | a label that replaces another's | 403 |
| no_key, cross_origin | a label as a page of another origin sends it, without a key | 401 or 403 |
| flip | the wrong label of an event of its own, with its receipt | taken; a learner learns its share of it at most |
| flood | as many events at once as a request may have | answered or 429; others are answered on |
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
"""Events of one request of a flood."""

MARK: Final = "attack"
"""What the ids of the attacker's own events, and all of its texts, begin with."""

MAX_LABELS: Final = 100_000
"""Labels that are remembered of those that were taken."""


@dataclass(frozen=True, slots=True)
class TakenLabel:
    """A label of the attacker's that the service took, and the attack that it is of."""

    attack: str
    event_id: str
    label: str


@dataclass(slots=True)
class Tried:
    """What an attacker tried: the requests and those that were taken (200), by attack; what was never to be taken."""

    requests: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    labels: list[TakenLabel] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)
    num_unreachable: int = 0

    def labels_of(self, attack: str) -> list[TakenLabel]:
        return [label for label in self.labels if label.attack == attack]


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A response: its status, and its body where that is a JSON object."""

    status: int
    body: dict[str, Any]

    @property
    def is_taken(self) -> bool:
        return self.status == HTTPStatus.OK


class Attacker:
    """Verbs: run. `victim_of` returns the id of another's event by its number, of the source `victims`."""

    def __init__(
        self,
        url: str,
        key: str,
        seed: int,
        *,
        victims: str = IDS.run,
        victim_of: Callable[[int], str] = IDS.of,
    ) -> None:
        self._address = urlsplit(url).netloc
        self._key = key
        self._rng = random.Random(seed)
        self._victims = victims
        self._victim_of = victim_of
        self._num_own = 0
        self._tried = Tried()
        self._attacks: dict[str, Callable[[], None]] = {
            "foreign_source": self._foreign_source,
            "forged_receipt": lambda: self._label_of_another("forged_receipt", receipt=self._made_up()),
            "stolen_receipt": self._stolen_receipt,
            "no_receipt": lambda: self._label_of_another("no_receipt"),
            "correction": lambda: self._label_of_another("correction", correct=True),
            "no_key": lambda: self._as_a_page("no_key", {"content-type": "application/json"}),
            "cross_origin": lambda: self._as_a_page(
                "cross_origin", {"content-type": "text/plain", "origin": "https://evil.example"}
            ),
            "flip": self._flip,
            "flood": self._flood,
        }

    def run(self, until: threading.Event) -> Tried:
        """Attacks, every attack at least once, until the event is set; returns what was tried."""
        names = list(self._attacks)
        for name in names:
            self._attempt(name)
        while not until.wait(PAUSE_S):
            self._attempt(self._rng.choice(names))
        return self._tried

    def _attempt(self, name: str) -> None:
        try:
            self._attacks[name]()
        except (OSError, http.client.HTTPException):
            self._tried.num_unreachable += 1

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
            self._label_of_another("stolen_receipt", receipt=answer["receipt"], key=answer["key"])

    def _label_of_another(self, attack: str, **said: Any) -> None:
        label = {"event_id": self._victim(), "label": MARK, "event_source": self._victims, **said}
        reply = self._post(attack, "/v1/feedback", label)
        self._note(attack, label, reply)
        if reply.is_taken and attack != "no_receipt":
            self._breach(attack, f"a label for {label['event_id']} was taken")

    def _as_a_page(self, attack: str, headers: dict[str, str]) -> None:
        label = {"event_id": self._victim(), "label": MARK, "text": f"{MARK}: taught by a page"}
        reply = self._post(attack, "/v1/feedback", label, headers, is_known=False)
        self._note(attack, label, reply)
        if reply.is_taken:
            self._breach(attack, f"a label for {label['event_id']} was taken without a key")

    def _flip(self) -> None:
        answer = self._ask()
        others = [name for name, _ in (answer or {}).get("scores", ()) if name != answer["label"]] if answer else []
        if not answer or not others:
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
        """Returns the answer to an event of its own; None where there is none."""
        reply = self._post("ask", "/v1/predict", {"events": [self._own_event()]})
        answer: dict[str, Any] = (reply.body.get("answers") or [{}])[0]
        return answer if reply.is_taken and "receipt" in answer else None

    def _own_event(self) -> dict[str, str]:
        self._num_own += 1
        return {"id": f"{MARK}-{self._num_own}", "text": f"{MARK}: event {self._num_own}"}

    def _victim(self) -> str:
        return self._victim_of(self._rng.randrange(10_000))

    def _made_up(self) -> str:
        return self._rng.randbytes(48).hex()

    def _note(self, attack: str, label: dict[str, Any], reply: HttpAnswer) -> None:
        if reply.is_taken and len(self._tried.labels) < MAX_LABELS:
            self._tried.labels.append(TakenLabel(attack, label["event_id"], label["label"]))

    def _breach(self, attack: str, what: str) -> None:
        if len(self._tried.breaches) < MAX_LABELS:
            self._tried.breaches.append(f"{attack}: {what}")

    def _post(
        self, attack: str, path: str, body: object, headers: dict[str, str] | None = None, *, is_known: bool = True
    ) -> HttpAnswer:
        """Sends a request, with the key if the attacker is to be known; counts it, and what became of it."""
        sent = dict(headers or {})
        if is_known:
            sent["x-api-key"] = self._key
        self._tried.requests[attack] += 1
        reply = send_request(self._address, path, body, sent)
        self._tried.statuses[reply.status] += 1
        self._tried.taken[attack] += reply.status == HTTPStatus.OK
        try:
            found = json.loads(reply.body)
        except ValueError:
            found = None
        return HttpAnswer(reply.status, found if isinstance(found, dict) else {})
