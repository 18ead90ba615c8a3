"""The configuration of our topics: partitions, retention, the clock, and size limits above what we accept.

An oversized event must be able to arrive, or it could not become a dead letter. The dead letter of the largest message
must fit, too.

The broker sets the times of answers and labels, so that the learner can compare them (`learner.labels.flow`), whatever
the clock of a sender says. The time of an event is the client's own.
"""

from typing import Any

from kafka.admin import ConfigResource, ConfigResourceType  # type: ignore[import-untyped]
from kafka.errors import TopicAlreadyExistsError  # type: ignore[import-untyped]

from wire.config import BusConfig
from wire.errors import BusRefused
from wire.letters import MAX_LETTER_BYTES, MAX_MESSAGE_BYTES
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

DAY_MS = 24 * 3_600 * 1_000
RETENTION_MS: dict[type, int] = {
    Event: 7 * DAY_MS,
    Answer: 7 * DAY_MS,
    Feedback: 30 * DAY_MS,
    DeadLetter: 30 * DAY_MS,
    Quarantined: 30 * DAY_MS,
    AdminAction: 365 * DAY_MS,
}
TIMED_BY_BROKER = (Answer, Feedback)
TIMESTAMP_TYPE = "message.timestamp.type"
BY_BROKER = "LogAppendTime"
LETTER_ROOM = MAX_LETTER_BYTES - MAX_MESSAGE_BYTES
"""Bytes that the dead letter of the largest message takes beyond that message."""


def create(admin: Any, config: BusConfig) -> None:
    """Creates the topics that do not exist, through the library's admin client."""
    options = {topic_name(config.prefix, record): _options(record, config) for record in TOPIC_RECORDS}
    response = admin.create_topics(options, raise_errors=False, wait_for_metadata=True)
    for topic in response["topics"]:
        if topic["error_code"] not in (0, TopicAlreadyExistsError.errno):
            raise BusRefused(f"topic {topic['name']}: {topic['error_message']} (code {topic['error_code']})")


def timed_by_sender(admin: Any, config: BusConfig) -> list[str]:
    """Returns the topics whose times are the senders' though the broker should set them; no topic that is missing."""
    names = [topic_name(config.prefix, record) for record in TIMED_BY_BROKER]
    existing = set(names) & set(admin.list_topics())
    wanted = [ConfigResource(ConfigResourceType.TOPIC, name, {TIMESTAMP_TYPE: None}) for name in sorted(existing)]
    described = admin.describe_configs(wanted, config_filter="all") if wanted else {}
    topics = described.get("topic", {})
    return [name for name, options in topics.items() if options[TIMESTAMP_TYPE]["value"] != BY_BROKER]


def _options(record_type: type[TopicRecord], config: BusConfig) -> dict[str, Any]:
    return {
        "num_partitions": config.partitions,
        "replication_factor": config.replication_factor,
        "configs": {
            "cleanup.policy": "delete",
            "retention.ms": str(RETENTION_MS[record_type]),
            TIMESTAMP_TYPE: BY_BROKER if record_type in TIMED_BY_BROKER else "CreateTime",
            "max.message.bytes": str(config.max_message_bytes + (LETTER_ROOM if record_type is DeadLetter else 0)),
            # one of three replicas may be away; an acknowledged record is then still on two
            "min.insync.replicas": str(2 if config.replication_factor > 2 else 1),
        },
    }
