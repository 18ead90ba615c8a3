"""`POST /v1/feedback`: accepts labels, and acknowledges each label when the broker has it.

    {"event_id", "label", "receipt"?, ...} or {"labels": [{...}, ...]} --> Feedback --outbox--> feedback.v1

If events have sets of labels, a label has `event_id` and `labels`, a list of names. If events have scores, a label has
`value`, a number.

The source of a label is its sender: the name of the API key, or the address if no keys are required. So nobody can send
labels in another's name, and the learner's limits apply to each sender. Forged receipts and unknown labels are refused
here, so that their sender sees the error. Everything else is checked by the learner (`learner/intake/trust.py`). A
client with the role `admin` may replace a label (`correct`); the learner accepts this correction without a receipt.
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
from serving.http.problems import ErrorBody, Problem, ProblemBody, RequestRefused, unwrap
from serving.http.requests import read_options
from serving.http.schemas import UNREADABLE, decoding_problem, request_problem, schema_problem
from wire.envelope import MAX_FIELD_BYTES
from wire.inputs import Features, Part, fields_of, find_problem
from wire.kinds import LABEL_FIELDS, problem_of_label
from wire.records import MAX_TEXT_CHARS, Feedback

FORGED = Problem(
    status=HTTPStatus.UNPROCESSABLE_ENTITY,
    code="forged_receipt",
    message="`receipt` does not belong to an answer of this service: send the answer's receipt unchanged",
)


class LabelBody(msgspec.Struct, frozen=True, kw_only=True):
    """A label as a client sends it.

    - `event_id`, `key`, `receipt`, `event_source`: repeated from the answer, whose `source` is `event_source`
    - `label`, `labels`, `value`, `target`: the label; one of them, by the kind of labels
    - `text`, `features`, `parts`: the event's content, needed only if the learner has already forgotten the answer
    - `correct`: whether the label replaces an earlier one
    - `task`: the label's task; "" is the default task. `receipt` must be from this task's answer.
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
    """A label that the broker has acknowledged. `source` is its sender."""

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
    """The endpoint for labels."""

    api: Api

    async def feedback(self, request: Request) -> Response:
        client = self.api.client(request, Role.FEEDBACK)
        with self.api.bodies.reader() as reader:
            entries, is_list = self._read(unwrap(await reader.read(request)), client)
            self.api.access.take(client, len(entries))
            replies = await self.api.bridge.send_labels(entries, read_options(request))
            problem = request_problem(replies, is_list=is_list)
            if problem:
                raise RequestRefused(problem)
            return json_response(write_labels(replies))

    def _read(self, body: bytes, client: ApiClient) -> tuple[list[Feedback | Problem], bool]:
        """Returns the labels of a request, and whether the request is a list.

        In a list, each invalid label becomes a problem. Raises RequestRefused if the request itself is invalid.
        """
        try:
            request = _REQUESTS.decode(body)
        except UNREADABLE as error:
            raise RequestRefused(decoding_problem(error)) from error
        labels = request.labels
        if request.event_id is not msgspec.UNSET or labels is None or isinstance(labels, msgspec.UnsetType):
            return [self.label(body, client)], False
        if not 0 < len(labels) <= self.api.max_events:
            raise RequestRefused(schema_problem(f"`labels` has {len(labels)} entries; give 1 to {self.api.max_events}"))
        return [self.label(raw, client) for raw in labels], True

    def label(self, raw: msgspec.Raw | bytes, client: ApiClient) -> Feedback | Problem:
        """Returns the record that the learner will read, or the label's problem."""
        try:
            body = _LABEL.decode(raw)
        except UNREADABLE as error:
            return decoding_problem(error)
        if not body.event_id.strip():
            return schema_problem("`event_id` is blank")
        for name in ("event_id", "label", "key", "receipt", "event_source"):
            if len((getattr(body, name) or "").encode()) > MAX_FIELD_BYTES:
                return schema_problem(f"`{name}` has more than {MAX_FIELD_BYTES} bytes")
        if body.target is not None and len(msgspec.json.encode(body.target)) > MAX_FIELD_BYTES:
            return schema_problem(f"`target` has more than {MAX_FIELD_BYTES} bytes")
        if problem := find_problem(body.features, body.parts):
            return schema_problem(problem)
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
            return schema_problem(problem)
        if record_problem := self.api.bridge.task_problem(record) or self._label_set_problem(record):
            return record_problem
        if body.correct:
            return self._approve_correction(record, client)
        return FORGED if self.api.receipts.refusal(record, is_required=False, max_age_ms=math.inf) else record

    def _label_set_problem(self, record: Feedback) -> Problem | None:
        """Returns the problem if the task's set of labels refuses the label.

        Returns None if the label may be learnt, or would wait for an operator's approval.
        """
        labels = self.api.labels(record.task)
        reason = labels.refusal(record.label_string, lambda name: True)
        if not reason:
            return None
        self.api.bridge.pipeline.count(f"labels_{reason}")
        message = labels.explain_refusal(reason, record.label_string)
        return Problem(status=HTTPStatus.UNPROCESSABLE_ENTITY, code=f"label_{reason}", message=message)

    def _approve_correction(self, record: Feedback, client: ApiClient) -> Feedback | Problem:
        client.require(Role.ADMIN)
        if record.event_source is None:
            return schema_problem("`event_source` is missing: a correction names the source of its event")
        return self.api.receipts.approved(record)


def write_labels(replies: Sequence[Feedback | Problem]) -> bytes:
    """Returns the body of the response."""
    return msgspec.json.encode(AcceptedLabelsBody([_to_body(reply) for reply in replies]))


def _to_body(reply: Feedback | Problem) -> AcceptedBody | ErrorBody:
    if isinstance(reply, Problem):
        return ErrorBody(ProblemBody(reply.code, reply.message))
    label_fields = {name: value for name in LABEL_FIELDS if (value := getattr(reply, name)) is not None}
    return AcceptedBody(event_id=reply.event_id, label=reply.label, source=reply.source, **label_fields)
