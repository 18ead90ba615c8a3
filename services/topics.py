"""The topics: which program reads and writes which, the check when a program starts, and their AsyncAPI 3 document.

    serve | learn | rollout --require_topics--> nothing, or TopicsUnfit with each topic, its problem, and the command
    record --msgspec--> JSON Schema without the fields that travel as headers --> message --> channel, operation

If the broker does not answer, the check is skipped, since the programs wait for the broker later. The check waits for a
missing topic, since another program may be about to create it: `lifelong up`, or `topics create` in a cluster that is
starting.

`docs/asyncapi.yaml` is the document with the default names; `lifelong topics describe` prints it with the names of the
settings.
"""

import time
from collections.abc import Sequence
from contextlib import closing
from importlib.metadata import version
from typing import Any, Final, Literal, TypeAlias

import structlog

from services.settings import Settings
from wire.bus import Bus, Finding
from wire.config import BusConfig
from wire.envelope import ATTRIBUTES, COMMON_HEADERS, HEADER_FIELDS, READ_HEADERS, SPEC_VERSION
from wire.errors import BusUnavailable
from wire.records import (
    TOPIC_RECORDS,
    AdminAction,
    Answer,
    DeadLetter,
    Event,
    Feedback,
    Quarantined,
    TopicRecord,
    topic_name,
)
from wire.records.schemas import schema_components

ProgramName: TypeAlias = Literal["serve", "learn", "rollout"]
Records: TypeAlias = Sequence[type[TopicRecord]]

READS: dict[ProgramName, Records] = {"serve": (Event,), "learn": (Answer, Feedback), "rollout": (Answer, Feedback)}
WRITES: dict[ProgramName, Records] = {
    "serve": (Answer, DeadLetter),
    "learn": (Feedback, Quarantined, DeadLetter),
    "rollout": (),
}
MAY_WRITE: dict[ProgramName, Records] = {"serve": (Feedback,), "learn": (), "rollout": ()}
"""Records that a program writes only on request. Without the right to write them, only these requests fail: a replica
that takes no labels over HTTP needs no right for labels."""

WAIT_MS = 2_000
"""How long the check at a program's start waits for the broker."""

PAUSE_S = 0.5
"""Pause between two checks while topics are missing."""

log = structlog.get_logger("topics")

REF: Final = "#/components/schemas/{name}"

PURPOSES: Final = {
    Event: ("receive", "A text to classify, from any producer."),
    Answer: ("send", "The model's answer to an event, with a receipt for its label."),
    Feedback: ("receive", "The label of an event, from any labeller."),
    DeadLetter: ("send", "A message that was refused, unchanged, with the reason."),
    Quarantined: ("send", "A label that was not believed, until an operator releases it."),
    AdminAction: ("send", "A change by an operator, with the code of the record before it."),
}
"""The service's action (send or receive) for the records of each topic, and a summary of the records."""


class TopicsUnfit(ValueError):
    """A program cannot work with its topics. The message lists each topic with its problem and the fix."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n  ".join(["topics that do not fit:", *map(render_finding, findings)]))
        self.findings = findings


def render_finding(finding: Finding) -> str:
    return f"{finding.topic}: {finding.found}. Fix: {finding.fix}"


def find_problems(
    config: BusConfig,
    reads: Records = TOPIC_RECORDS,
    writes: Records = (),
    *,
    may_write: Records = (),
    wait_ms: int | None = None,
) -> list[Finding]:
    """Returns the findings about the topics of these records. Raises BusUnavailable, BusRefused.

    `wait_ms` is how long the broker may take to answer; None for the time of the settings.
    """
    with closing(Bus(config, client_id="topics")) as bus:
        return bus.check_topics(reads, writes, may_write=may_write, wait_ms=wait_ms)


def findings_for(settings: Settings, program: ProgramName, *, wait_ms: int | None = None) -> list[Finding]:
    """Returns the findings about the topics that `program` needs with these settings. Raises as `find_problems`."""
    reads = READS[program]
    if program == "serve" and settings.serving.series.labels:
        reads = (*reads, Feedback)
    return find_problems(settings.bus, reads, WRITES[program], may_write=MAY_WRITE[program], wait_ms=wait_ms)


def require_topics(settings: Settings, program: ProgramName) -> None:
    """Raises TopicsUnfit if `program` cannot work with its topics, and BusRefused if the broker refuses us.

    Waits for missing topics, at most `BusConfig.topics_timeout_s`, and logs their names at once.
    """
    deadline_s = time.monotonic() + settings.bus.topics_timeout_s
    has_logged_missing = False
    while True:
        try:
            findings = findings_for(settings, program, wait_ms=WAIT_MS)
        except BusUnavailable as error:
            log.warning("topics_not_checked", reason=str(error))
            return
        missing = [finding for finding in findings if finding.is_missing]
        if not missing or time.monotonic() > deadline_s:
            break
        if not has_logged_missing:
            log.warning("topics_missing", topics=[finding.topic for finding in missing], fix=missing[0].fix)
            has_logged_missing = True
        time.sleep(PAUSE_S)
    for finding in findings:
        if not finding.is_wrong:
            log.warning("topic_warning", topic=finding.topic, found=finding.found, fix=finding.fix)
    if wrong := [finding for finding in findings if finding.is_wrong]:
        raise TopicsUnfit(wrong)


def require_transactions(config: BusConfig) -> None:
    """Raises BusRefused if the broker cannot commit transactions, or denies us the right.

    If the broker does not answer, this only logs a warning, since the replica waits for the broker later.
    """
    with closing(Bus(config, client_id="replica")) as bus:
        try:
            bus.transactions()
        except BusUnavailable as error:
            log.warning("transactions_not_checked", reason=str(error))


def asyncapi_document(prefix: str = "") -> dict[str, Any]:
    """Returns the AsyncAPI document. `prefix` is the prefix of each topic's name (`bus.prefix`)."""
    schemas = schema_components(TOPIC_RECORDS, REF)
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for record in TOPIC_RECORDS:
        name = record.__name__
        action, summary = PURPOSES[record]
        channel = record.TOPIC.partition(".")[0]
        _drop_headers(record, schemas[name])
        channels[channel] = {
            "address": topic_name(prefix, record),
            "description": summary,
            "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        }
        operations[f"{action}{name}"] = {"action": action, "channel": {"$ref": f"#/channels/{channel}"}}
        messages[name] = _message_schema(record)
    # The value of a dead letter is the refused message itself, in any form.
    del schemas[DeadLetter.__name__]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Lifelong",
            "version": version("lifelong"),
            "description": "The topics. Messages are CloudEvents 1.0 in Kafka's binary mode, with JSON inside.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    }


def _message_schema(record: type[TopicRecord]) -> dict[str, Any]:
    is_letter = record is DeadLetter
    names = sorted({*READ_HEADERS.get(record, COMMON_HEADERS), "ce_id"})
    headers = {name: {"type": "string"} for name in names}
    headers["ce_type"] = {"type": "string", "const": record.TYPE}
    headers["ce_specversion"] = {"type": "string", "const": SPEC_VERSION}
    return {
        "name": record.__name__,
        "contentType": "application/octet-stream" if is_letter else "application/json",
        "headers": {"type": "object", "properties": headers},
        "payload": {"type": "string", "format": "binary"} if is_letter else {"$ref": REF.format(name=record.__name__)},
        "bindings": {"kafka": {"key": {"type": "string"}}},
    }


def _drop_headers(record: type[TopicRecord], schema: dict[str, Any]) -> None:
    """Removes the fields that travel as headers from the schema of the message's value."""
    in_headers = HEADER_FIELDS.get(record, ATTRIBUTES)
    for name in in_headers:
        schema["properties"].pop(name, None)
    schema["required"] = [name for name in schema.get("required", ()) if name not in in_headers]
