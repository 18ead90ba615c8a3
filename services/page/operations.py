"""What a person may do by the page: ask, label, look at what was refused, and, with the token, change something.

    ask    --> POST /v1/predict of the replicas            label --> feedback.v1
    change --> audit.v1 (asked) --> the step of the command of that name --> audit.v1 (done, or failed)

The steps are those of the commands `lifelong rollout`, `labels`, `quarantine` and `deadletters`. What cannot be
recorded is not done: the command line does it then.
"""

import json
import os
import socket
import threading
from collections.abc import Callable, Mapping
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
from services.commands.rollout_text import plan_line
from services.keys import ring_of
from services.label_commands import ClassesInForce, Wish
from services.refused import LabelFilter, id_of, newest_letters, quarantined_labels, release, replay
from services.settings import Settings
from wire.bus import Bus
from wire.envelope import from_message, to_message
from wire.errors import WireError
from wire.kinds import KINDS, field_with
from wire.message import Place
from wire.receipts import Receipts
from wire.records import MAX_TEXT_CHARS, Feedback, LabelAction
from wire.store import Store
from wire.timestamps import now_ms

SOURCE: Final = "page"
"""The source of labels that are given by the page."""

SEND_S = 10.0
MAX_SHOWN: Final = 100
"""Labels, letters and records that are shown: the newest."""

LAST_SHOWN: Final = 2_000
"""Characters of a text that are shown."""


class PageLabel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A label for an answer, with what that answer said of its event; a set of labels has commas between its names."""

    event_id: str
    label: str
    source: str = ""
    key: str = ""
    receipt: str = ""


class AdminCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to change: a version (None: the candidate), the quarantined labels or letters with these ids, or these
    labels, as a `LabelCommand` says it."""

    version: int | None = None
    ids: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    to: tuple[str, ...] = ()
    forgets: bool = False


Act: TypeAlias = Callable[[Operator, AdminCall], str]


class PageOperations:
    """Does what is asked for, one change after another. Any thread may call. `close` closes its clients."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._bus = Bus(settings.bus, client_id="page")
        self._receipts = Receipts.following(ring_of(settings))
        name = f"{socket.gethostname()}:{os.getpid()}:{now_ms():x}"
        self._audit = AdminWriter(self._bus, ring_of(settings), prefix=settings.bus.prefix, source=name, now_ms=now_ms)
        self._changing = threading.Lock()
        self._reading = threading.Lock()
        self._acts: Mapping[str, Act] = {
            "promote": lambda operator, call: plan_line(operator.promote(call.version, now_ms=now_ms())),
            "rollback": lambda operator, _: plan_line(operator.rollback(now_ms=now_ms())),
            "pause": lambda operator, _: plan_line(operator.pause(now_ms=now_ms())),
            "resume": lambda operator, _: plan_line(operator.resume(now_ms=now_ms())),
            "release": lambda _, call: self._release(call.ids),
            "replay": lambda _, call: self._replay(call.ids),
            **{f"labels-{action}": partial(self._change_labels, action) for action in get_args(LabelAction)},
        }

    def close(self) -> None:
        self._bus.close()

    def ask(self, text: str) -> dict[str, Any]:
        """Returns the answer to a text. Raises NoAnswer."""
        serving = self._settings.serving
        url = f"http://{serving.http_host}:{serving.http_port}/v1/predict"
        key = self._settings.api_key.get_secret_value() if self._settings.api_key else ""
        answer: dict[str, Any] = post(url, {"events": [{"text": text[:MAX_TEXT_CHARS]}]}, key)["answers"][0]
        return answer

    def label(self, label: PageLabel) -> None:
        """Sends a label to the learner. Raises BadMessage where it could not be read there, and other WireErrors."""
        kind = KINDS.get(self._settings.labels.kind)
        feedback = Feedback(
            event_id=label.event_id,
            key=label.key,
            source=SOURCE,
            time_ms=now_ms(),
            receipt=label.receipt,
            event_source=label.source,
            **field_with(kind, kind.from_text(label.label)),
        )
        from_message(Feedback, to_message(feedback), Place(topic=Feedback.TOPIC, partition=0, offset=0))
        with closing(self._bus.publisher()) as publisher:
            publisher.send_all([feedback], SEND_S)

    def quarantined(self) -> list[dict[str, Any]]:
        """Returns the newest labels in quarantine, the newest first. Raises WireError."""
        with self._reading:
            found = nlargest(
                MAX_SHOWN,
                quarantined_labels(self._bus, LabelFilter()),
                key=lambda label: (label.time_ms, label.event_id),
            )
        rows: list[dict[str, Any]] = msgspec.to_builtins(found)
        return [
            row | {"id": id_of(label), "text": label.text[:LAST_SHOWN]} for row, label in zip(rows, found, strict=True)
        ]

    def dead_letters(self) -> list[dict[str, Any]]:
        """Returns the newest dead letters, the newest first. Raises WireError."""
        with self._reading:
            return [as_builtins(letter) for letter in newest_letters(self._bus, MAX_SHOWN)]

    def actions(self) -> list[dict[str, Any]]:
        """Returns the newest records of what was changed, the newest first. Raises WireError."""
        with self._reading:
            found: list[dict[str, Any]] = msgspec.to_builtins(list(admin_actions(self._bus))[-MAX_SHOWN:])
        return found[::-1]

    def knows(self, action: str) -> bool:
        """Whether there is such a change."""
        return action in self._acts

    def change(self, action: str, call: AdminCall, client: str) -> str:
        """Does it; returns what is so now, in words. Raises NotPossible, or WireError where it cannot be recorded."""
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
            raise NotPossible("name `labels`, and `to` for rename, merge and split alone")
        wish = Wish(action=action, labels=call.labels, to=call.to, forgets=call.forgets)
        known = ClassesInForce.read(self._store, settings.labels)
        max_chars = settings.learner.max_label_chars
        body = known.command(wish, max_chars=max_chars, source=SOURCE, now_ms=now_ms())
        command = self._store.commands.append(body, source=SOURCE, time_ms=body.time_ms)
        return f"command {command.seq} about labels is requested"

    def _release(self, ids: tuple[str, ...]) -> str:
        if not ids:
            raise NotPossible("name the labels that are released")
        released = release(self._bus, self._receipts, LabelFilter(ids=ids))
        if not released.sent:
            raise NotPossible(f"{'; '.join(released.unproven)}: `lifelong quarantine release` sends such a label alone")
        return f"{len(released.sent)} labels sent to the learner again"

    def _replay(self, letter_ids: tuple[str, ...]) -> str:
        if not letter_ids:
            raise NotPossible("name the letters that are sent again")
        replayed = replay(self._bus, self._settings.bus, letter_ids)
        if replayed.refused:
            reasons = "; ".join(f"{letter_id}: {reason}" for letter_id, reason in replayed.refused.items())
            raise NotPossible(f"{len(replayed.sent)} sent again; not sent: {reasons}")
        return f"{len(replayed.sent)} sent again"
