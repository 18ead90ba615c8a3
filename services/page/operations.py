"""The actions of the page: ask, label, list refused messages, and, with the token, change the service.

    ask    --> POST /v1/predict of the replicas            label --> feedback.v1
    change --> audit.v1 (asked) --> the step of the command of that name --> audit.v1 (done, or failed)

A change does the same as a command of `lifelong rollout`, `labels`, `quarantine` or `deadletters`. If the change cannot
be recorded in the audit log, it is not made. The commands then still work.
"""

import json
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from heapq import nlargest
from typing import Any, Final, TypeAlias, get_args

import msgspec

from rollout.operator import Operator
from rollout.plans import NotPossible
from services.admin_log import AdminWriter, admin_actions
from services.commands.ask import post
from services.commands.refused import as_builtins
from services.commands.rollout_text import render_plan
from services.keys import key_ring
from services.label_commands import ClassesInForce, LabelEdit
from services.refused import LabelFilter, newest_letters, quarantine_id, quarantined_labels, release, replay
from services.settings import Settings
from wire.bus import Bus
from wire.envelope import from_message, to_message
from wire.errors import WireError
from wire.inputs import Part, render
from wire.kinds import KINDS, field_with
from wire.message import Place
from wire.receipts import Receipts
from wire.records import MAX_TEXT_CHARS, Feedback, LabelAction
from wire.store import Store
from wire.timestamps import now_ms

SOURCE: Final = "page"
"""The source of labels from the page."""

SEND_S = 10.0
MAX_SHOWN: Final = 100
"""Number of labels, dead letters and audit records that are shown: the newest."""

LAST_SHOWN: Final = 2_000
"""Number of characters of a text that are shown."""


class PageLabel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A label for an answer, with the event's fields from that answer. A set of labels has commas between its names."""

    event_id: str
    label: str
    source: str = ""
    key: str = ""
    receipt: str = ""


class AdminCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The object of a change, by kind of change:

    - promote: `version` (None: the candidate)
    - release, replay: `ids` of quarantined labels, or of dead letters
    - labels: the fields of a `LabelCommand`
    """

    version: int | None = None
    ids: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    to: tuple[str, ...] = ()
    forgets: bool = False


Act: TypeAlias = Callable[[Operator, AdminCall], str]


class PageOperations:
    """Carries out the actions of the page, one change at a time. Thread-safe. `close` closes its clients."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._bus = Bus(settings.bus, client_id="page")
        self._receipts = Receipts.following(key_ring(settings))
        name = f"{socket.gethostname()}:{os.getpid()}:{now_ms():x}"
        self._audit = AdminWriter(self._bus, key_ring(settings), prefix=settings.bus.prefix, source=name, now_ms=now_ms)
        self._changing = threading.Lock()
        self._reading = threading.Lock()
        self._acts: Mapping[str, Act] = {
            "promote": lambda operator, call: render_plan(operator.promote(call.version, now_ms=now_ms())),
            "rollback": lambda operator, _: render_plan(operator.rollback(now_ms=now_ms())),
            "pause": lambda operator, _: render_plan(operator.pause(now_ms=now_ms())),
            "resume": lambda operator, _: render_plan(operator.resume(now_ms=now_ms())),
            "release": lambda _, call: self._release(call.ids),
            "replay": lambda _, call: self._replay(call.ids),
            **{f"labels-{action}": partial(self._change_labels, action) for action in get_args(LabelAction)},
        }

    def close(self) -> None:
        self._bus.close()

    def ask(self, text: str, parts: Sequence[Part] = ()) -> dict[str, Any]:
        """Returns the answer to an event with a text and parts. Raises NoAnswer."""
        serving = self._settings.serving
        url = f"http://{serving.http_host}:{serving.http_port}/v1/predict"
        key = self._settings.api_key.get_secret_value() if self._settings.api_key else ""
        event: dict[str, Any] = {"text": text[:MAX_TEXT_CHARS]}
        if parts:
            event["parts"] = parts
        if self._settings.task:
            event["tasks"] = [self._settings.task]
        answer: dict[str, Any] = post(url, {"events": [event]}, key)["answers"][0]
        return answer

    def label(self, label: PageLabel) -> None:
        """Sends a label to the learner. Raises BadMessage if the learner could not read it, and other WireErrors."""
        kind = KINDS.get(self._settings.labels.kind)
        feedback = Feedback(
            event_id=label.event_id,
            key=label.key,
            source=SOURCE,
            time_ms=now_ms(),
            receipt=label.receipt,
            event_source=label.source,
            task=self._settings.task,
            **field_with(kind, kind.from_text(label.label)),
        )
        from_message(Feedback, to_message(feedback), Place(topic=Feedback.TOPIC, partition=0, offset=0))
        with closing(self._bus.publisher()) as publisher:
            publisher.send_all([feedback], SEND_S)

    def quarantined(self) -> list[dict[str, Any]]:
        """Returns the newest labels in quarantine, the newest first. Raises WireError."""
        with self._reading:
            labels = nlargest(
                MAX_SHOWN,
                quarantined_labels(self._bus, LabelFilter()),
                key=lambda label: (label.time_ms, label.event_id),
            )
        rows: list[dict[str, Any]] = msgspec.to_builtins(labels)
        return [
            row | {"id": quarantine_id(label), "text": render(label)[:LAST_SHOWN]}
            for row, label in zip(rows, labels, strict=True)
        ]

    def dead_letters(self) -> list[dict[str, Any]]:
        """Returns the newest dead letters, the newest first. Raises WireError."""
        with self._reading:
            rows = [as_builtins(letter) for letter in newest_letters(self._bus, MAX_SHOWN)]
        # A payload with a picture has megabytes.
        return [row | {"payload": row["payload"][:LAST_SHOWN]} for row in rows]

    def actions(self) -> list[dict[str, Any]]:
        """Returns the newest records of the audit log, the newest first. Raises WireError."""
        with self._reading:
            records: list[dict[str, Any]] = msgspec.to_builtins(list(admin_actions(self._bus))[-MAX_SHOWN:])
        return records[::-1]

    def knows(self, action: str) -> bool:
        """Returns whether `action` is the name of a change."""
        return action in self._acts

    def change(self, action: str, call: AdminCall, client: str) -> str:
        """Makes a change of the service, and returns the result as text.

        Raises NotPossible, and WireError if the change cannot be recorded.
        """
        asked = json.dumps(msgspec.to_builtins(call))
        with self._changing:
            self._audit.write(action, "asked", detail=asked, client=client)
            record = partial(self._audit.write, action, client=client)
            try:
                operator = Operator(self._store, name=f"{SOURCE}, {client}", config=self._settings.rollout)
                done = self._acts[action](operator, call)
            except (NotPossible, WireError) as error:
                record("failed", detail=str(error))
                raise
            record("done", detail=done)
            return done

    def note_denied(self, action: str, client: str, reason: str) -> None:
        """Records a call that was denied. Raises WireError."""
        self._audit.write(action, "refused", detail=reason, client=client)

    def _change_labels(self, action: LabelAction, operator: Operator, call: AdminCall) -> str:
        settings = self._settings
        if not call.labels or (action in ("rename", "merge", "split")) is not bool(call.to):
            raise NotPossible("name `labels`, and name `to` only for rename, merge and split")
        wish = LabelEdit(action=action, labels=call.labels, to=call.to, forgets=call.forgets)
        known = ClassesInForce.read(self._store, settings.labels)
        max_chars = settings.learner.max_label_chars
        body = known.command(wish, max_chars=max_chars, source=SOURCE, now_ms=now_ms())
        command = self._store.commands.append(body, source=SOURCE, time_ms=body.time_ms)
        return f"command {command.seq} about labels is requested"

    def _release(self, ids: tuple[str, ...]) -> str:
        if not ids:
            raise NotPossible("name the labels to release")
        released = release(self._bus, self._receipts, LabelFilter(ids=ids))
        if not released.sent:
            raise NotPossible(f"{'; '.join(released.unproven)}: only `lifelong quarantine release` sends such a label")
        return f"{len(released.sent)} labels sent to the learner again"

    def _replay(self, letter_ids: tuple[str, ...]) -> str:
        if not letter_ids:
            raise NotPossible("name the dead letters to send again")
        replayed = replay(self._bus, self._settings.bus, letter_ids)
        if replayed.refused:
            reasons = "; ".join(f"{letter_id}: {reason}" for letter_id, reason in replayed.refused.items())
            raise NotPossible(f"{len(replayed.sent)} sent again; not sent: {reasons}")
        return f"{len(replayed.sent)} sent again"
