"""`POST /v1/feedback`: labels in, each acknowledged once the broker has it.

    {"event_id", "label", "receipt"?, ...} or {"labels": [{...}, ...]} --> Feedback --outbox--> feedback.v1

Where events have sets of labels, that of an event is `labels`, a list of names, beside its `event_id`; where they have
scores, it is `value`, a number.

The source of a label is who sent it: the name of its API key, or its address where no keys are required. So nobody
labels in another's name, and the limits of the learner hold for each sender. A forged receipt and a
label outside the set are refused here, where their sender can see it; everything else is judged by the learner
(`learner/intake/trust.py`). Whoever has the role
`admin` may replace a label (`correct`), which the learner believes without a receipt.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from serving.http.access import ApiClient, Role
from serving.http.api import Api, json_response
from serving.http.problems import ErrorBody, Problem, ProblemBody, RequestRefused, accepted
from serving.http.requests import ask_of
from serving.http.schemas import UNREADABLE, whole_problem, wrong, wrong_shape
from wire.envelope import MAX_FIELD_BYTES
from wire.inputs import Features, Part, fields_of, problem_of
from wire.kinds import LABEL_FIELDS, problem_of_label
from wire.records import MAX_TEXT_CHARS, Feedback

FORGED = Problem(
    status=HTTPStatus.UNPROCESSABLE_ENTITY, code="forged_receipt", message="`receipt` is not that of an answer of ours"
)


class LabelBody(msgspec.Struct, frozen=True, kw_only=True):
    """A label as a client sends it: `event_id`, `key` and `receipt` of the answer, and its `source` as `event_source`.

    `text`, `features` and `parts` are those of the event, where its answer no longer waits. With `correct` it replaces
    an earlier label. `task` is the one that it is of ("": the default one), and `receipt` that of the task's answer.
    """

    event_id: str
    label: str = ""
    labels: tuple[str, ...] | None = None
    value: float | None = None
    target: dict[str, Any] | None = None
    key: str = ""
    receipt: str = ""
    event_source: str | None = None
    text: str = ""
    features: Features = {}
    parts: tuple[Part, ...] = ()
    correct: bool = False
    task: str = ""


class _Request(msgspec.Struct, frozen=True):
    event_id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    labels: list[msgspec.Raw] | msgspec.UnsetType | None = msgspec.UNSET


class AcceptedBody(msgspec.Struct, frozen=True, kw_only=True):
    """A label that the broker has; `source` is who it is from."""

    event_id: str
    label: str
    source: str
    labels: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    value: float | msgspec.UnsetType = msgspec.UNSET
    target: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class AcceptedLabelsBody(msgspec.Struct, frozen=True):
    labels: list[AcceptedBody | ErrorBody]


_LABEL = msgspec.json.Decoder(LabelBody)
_REQUESTS = msgspec.json.Decoder(_Request)


@dataclass(frozen=True, slots=True)
class FeedbackApi:
    """The endpoint."""

    api: Api

    async def feedback(self, request: Request) -> Response:
        client = self.api.client(request, Role.FEEDBACK)
        with self.api.bodies.room() as room:
            entries, is_list = self._read(accepted(await room.read(request)), client)
            self.api.access.take(client, len(entries))
            replies = await self.api.bridge.send_labels(entries, ask_of(request))
            problem = whole_problem(replies, is_list=is_list)
            if problem:
                raise RequestRefused(problem)
            return json_response(write_labels(replies))

    def _read(self, body: bytes, client: ApiClient) -> tuple[list[Feedback | Problem], bool]:
        """Returns the labels of a request, and whether it is a list, in which a wrong one is a problem of its own."""
        try:
            request = _REQUESTS.decode(body)
        except UNREADABLE as error:
            raise RequestRefused(wrong(error)) from error
        labels = request.labels
        if request.event_id is not msgspec.UNSET or labels is None or isinstance(labels, msgspec.UnsetType):
            return [self.label(body, client)], False
        if not 0 < len(labels) <= self.api.max_events:
            raise RequestRefused(wrong_shape(f"`labels` has {len(labels)} entries; give 1 to {self.api.max_events}"))
        return [self.label(raw, client) for raw in labels], True

    def label(self, raw: msgspec.Raw | bytes, client: ApiClient) -> Feedback | Problem:
        """Returns a label as the learner gets it, or what is wrong with it."""
        try:
            body = _LABEL.decode(raw)
        except UNREADABLE as error:
            return wrong(error)
        if not body.event_id.strip():
            return wrong_shape("`event_id` is blank")
        for name in ("event_id", "label", "key", "receipt", "event_source"):
            if len((getattr(body, name) or "").encode()) > MAX_FIELD_BYTES:
                return wrong_shape(f"`{name}` has more than {MAX_FIELD_BYTES} bytes")
        if body.target is not None and len(msgspec.json.encode(body.target)) > MAX_FIELD_BYTES:
            return wrong_shape(f"`target` has more than {MAX_FIELD_BYTES} bytes")
        if problem := problem_of(body.features, body.parts):
            return wrong_shape(problem)
        record = Feedback(
            event_id=body.event_id,
            label=body.label,
            labels=body.labels,
            value=body.value,
            target=body.target,
            key=body.key,
            source=client.name,
            time_ms=self.api.now_ms(),
            receipt=body.receipt,
            event_source=body.event_source,
            **{**fields_of(body), "text": body.text[:MAX_TEXT_CHARS]},
            task=body.task,
        )
        if problem := problem_of_label(record):
            return wrong_shape(problem)
        if refused := self.api.bridge.checked(record) or self._outside(record):
            return refused
        if body.correct:
            return self._approved(record, client)
        return FORGED if self.api.receipts.refusal(record, is_required=False, max_age_ms=math.inf) else record

    def _outside(self, record: Feedback) -> Problem | None:
        """Returns what is wrong with a label that is not in the set; None where it may be learnt, or waits for an
        operator."""
        labels = self.api.labels(record.task)
        reason = labels.refusal(record.said, lambda name: True)
        if not reason:
            return None
        self.api.bridge.pipeline.count(f"labels_{reason}")
        message = labels.why(reason, record.said)
        return Problem(status=HTTPStatus.UNPROCESSABLE_ENTITY, code=f"label_{reason}", message=message)

    def _approved(self, record: Feedback, client: ApiClient) -> Feedback | Problem:
        client.require(Role.ADMIN)
        if record.event_source is None:
            return wrong_shape("`event_source` is missing: a correction names the source of its event")
        return self.api.receipts.approved(record)


def write_labels(replies: Sequence[Feedback | Problem]) -> bytes:
    """Returns the body of a response."""
    return msgspec.json.encode(AcceptedLabelsBody([_body_of(reply) for reply in replies]))


def _body_of(reply: Feedback | Problem) -> AcceptedBody | ErrorBody:
    if isinstance(reply, Problem):
        return ErrorBody(ProblemBody(reply.code, reply.message))
    said = {name: value for name in LABEL_FIELDS if (value := getattr(reply, name)) is not None}
    return AcceptedBody(event_id=reply.event_id, label=reply.label, source=reply.source, **said)
