"""The configuration of our topics: partitions, retention, the clock, and size limits above what we accept.

An oversized event must be able to arrive, or it could not become a dead letter. The dead letter of the largest message
must fit, too.

The broker sets the times of answers and labels, so that the learner can compare them (`learner.labels.flow`), whatever
the clock of a sender says. The time of an event is the client's own.
"""

from typing import Any

from kafka import errors  # type: ignore[import-untyped]
from kafka.errors import (  # type: ignore[import-untyped]
    ClusterAuthorizationFailedError,
    InvalidPartitionsError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
)

from wire.bus.client_errors import RIGHTS_FIX, mapped_error
from wire.config import BusConfig
from wire.errors import BusRefused, BusUnauthorized
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
FORBIDDEN = (ClusterAuthorizationFailedError.errno, TopicAuthorizationFailedError.errno)
READY_TIMEOUT_MS = 60_000
"""How long new topics may take until the brokers know them: on a busy machine more than the client's 10 s."""

TIMED_BY_BROKER = (Answer, Feedback)
TIMESTAMP_TYPE = "message.timestamp.type"
BY_BROKER = "LogAppendTime"
LETTER_ROOM = MAX_LETTER_BYTES - MAX_MESSAGE_BYTES
"""Bytes that the dead letter of the largest message takes beyond that message."""


def create(admin: Any, config: BusConfig) -> list[str]:
    """Creates the topics that do not exist, through the library's admin client; returns their names.

    It asks only for those: who may not create topics may still use ours. Raises BusUnauthorized, BusRefused.
    """
    options = {config.topic_of(record): _options(record, config) for record in TOPIC_RECORDS}
    missing = {name: options[name] for name in options.keys() - set(admin.list_topics())}
    if not missing:
        return []
    response = admin.create_topics(missing, raise_errors=False)
    for topic in response["topics"]:
        code = topic["error_code"]
        told = f"topic {topic['name']}: {topic['error_message']} (code {code})"
        if code in FORBIDDEN:
            raise BusUnauthorized(f"{told}: {RIGHTS_FIX}")
        if code not in (0, TopicAlreadyExistsError.errno):
            raise BusRefused(f"{told}. Settings of new topics: bus.replication_factor, partitions, max_message_bytes")
    admin.wait_for_topics(list(missing), timeout_ms=READY_TIMEOUT_MS)
    return sorted(missing)


def grow(admin: Any, config: BusConfig) -> dict[str, int]:
    """Adds partitions to our topics that have fewer than the settings say; returns how many each had."""
    names = {config.topic_of(record) for record in TOPIC_RECORDS} & set(admin.list_topics())
    described = admin.describe_topics(sorted(names)) if names else []
    had = {topic["name"]: len(topic["partitions"]) for topic in described}
    grown = {name: num for name, num in had.items() if num < config.partitions}
    response = admin.create_partitions(dict.fromkeys(grown, config.partitions), raise_errors=False) if grown else None
    for result in response.results if response else ():
        told = f"topic {result.name}: {result.error_message} (code {result.error_code})"
        if result.error_code in FORBIDDEN:
            raise BusUnauthorized(f"{told}: {RIGHTS_FIX}")
        if result.error_code not in (0, InvalidPartitionsError.errno):  # it has them already: our metadata is older
            raise BusRefused(told)
    return grown


def remove(admin: Any, config: BusConfig, group: str) -> None:
    """Removes the topics of our prefix, with their records, and the consumer group `group`; what is gone is no error.

    A mapped topic, and those of a prefix that begins with ours, are not among them. Raises BusUnauthorized, BusRefused,
    BusUnavailable.
    """
    names = {topic_name(config.prefix, record) for record in TOPIC_RECORDS} & set(admin.list_topics())
    removed = admin.delete_topics(sorted(names), raise_errors=False)["topics"] if names else []
    results = {topic["name"]: errors.for_code(topic["error_code"]) for topic in removed}
    groups = {each["group_id"] for each in admin.list_groups()} & {f"{config.prefix}{group}"}
    for name, result in (admin.delete_groups(sorted(groups)) if groups else {}).items():
        results[f"group {name}"] = errors.NoError if result == "OK" else getattr(errors, result, errors.UnknownError)
    for name, error in results.items():
        if error not in (errors.NoError, errors.UnknownTopicOrPartitionError, errors.GroupIdNotFoundError):
            raise mapped_error(config.bootstrap_servers, error(name))


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
