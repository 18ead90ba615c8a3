"""Creates, grows and removes our topics, and checks the topics that a program needs.

    settings --create, grow, remove--> partitions, retention, timestamps, and size limits above what we accept
    topics read and written --metadata, settings--> examine --> Finding(topic, is_wrong, found, fix)

The topics accept larger messages than the largest event that we accept, because an oversized event must arrive to
become a dead letter. The dead letter of the largest message must fit, too. The broker sets the timestamps of answers
and labels, so that the learner can compare them (`learner.intake.consumer`) even if the clock of a sender is wrong. The
client sets the timestamp of an event.

Topics are checked at the start, because otherwise a program would wait for records that cannot come. A finding is wrong
if the program cannot work:

- the topic does not exist, is hidden from us, or may not be read or written;
- it has fewer partitions than the setting;
- it is compacted, so that its log keeps only one event per key;
- its retention is so short that records expire before they are read by a program that was down for a while.

Any other finding is a note, for example that the settings of a topic are hidden from us. If a broker does not report
our rights, the settings are not requested, because Tansu 0.6 would close the connection.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kafka import errors  # type: ignore[import-untyped]
from kafka.admin import ConfigResource, ConfigResourceType  # type: ignore[import-untyped]
from kafka.errors import (  # type: ignore[import-untyped]
    ClusterAuthorizationFailedError,
    InvalidPartitionsError,
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
)

from wire.bus.client_errors import RIGHTS_FIX, to_wire_error
from wire.config import BusConfig
from wire.dead_letters import MAX_LETTER_BYTES, MAX_MESSAGE_BYTES
from wire.errors import BusRefused, BusUnauthorized
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
"""Time until all brokers know new topics. On a busy machine the client's default of 10 s is too short."""

TIMED_BY_BROKER = (Answer, Feedback)
TIMESTAMP_TYPE = "message.timestamp.type"
LOG_APPEND_TIME = "LogAppendTime"
LETTER_OVERHEAD_BYTES = MAX_LETTER_BYTES - MAX_MESSAGE_BYTES
"""Bytes that the dead letter of the largest message adds to the message."""

OPERATIONS = "authorized_operations"
"""The field of a topic's metadata that has the names of our rights; empty if the broker does not report them."""

DESCRIBE_CONFIGS = "DESCRIBE_CONFIGS"
"""The right to read the settings of a topic. Only the check of topics needs it."""

GROW_FIX = "lifelong topics grow, or lower bus.partitions if the topic cannot grow"
"""The fix for too few partitions. Event Hubs cannot add partitions in its basic and standard tiers."""

MIN_RETENTION_MS = 3_600_000
"""A shorter retention is a mistake: an outage of an hour must not lose records."""


def create(admin: Any, config: BusConfig) -> list[str]:
    """Creates the topics that do not exist, through the library's admin client; returns their names.

    It sends no request if all topics exist, so a user without the right to create topics can use existing topics.
    Raises BusUnauthorized, BusRefused.
    """
    options = {config.topic_for(record): _topic_options(record, config) for record in TOPIC_RECORDS}
    missing = {name: options[name] for name in options.keys() - set(admin.list_topics())}
    if not missing:
        return []
    response = admin.create_topics(missing, raise_errors=False)
    for topic in response["topics"]:
        code = topic["error_code"]
        message = f"topic {topic['name']}: {topic['error_message']} (code {code})"
        if code in FORBIDDEN:
            raise BusUnauthorized(f"{message}: {RIGHTS_FIX}")
        if code not in (0, TopicAlreadyExistsError.errno):
            raise BusRefused(
                f"{message}. Correct bus.replication_factor, bus.partitions or bus.max_message_bytes for new topics"
            )
    admin.wait_for_topics(list(missing), timeout_ms=READY_TIMEOUT_MS)
    return sorted(missing)


def grow(admin: Any, config: BusConfig) -> dict[str, int]:
    """Adds partitions to our topics that have fewer than `bus.partitions`; returns their former numbers by topic.

    Raises BusUnauthorized, BusRefused.
    """
    names = {config.topic_for(record) for record in TOPIC_RECORDS} & set(admin.list_topics())
    described = admin.describe_topics(sorted(names)) if names else []
    had = {topic["name"]: len(topic["partitions"]) for topic in described}
    grown = {name: num for name, num in had.items() if num < config.partitions}
    response = admin.create_partitions(dict.fromkeys(grown, config.partitions), raise_errors=False) if grown else None
    for result in response.results if response else ():
        message = f"topic {result.name}: {result.error_message} (code {result.error_code})"
        if result.error_code in FORBIDDEN:
            raise BusUnauthorized(f"{message}: {RIGHTS_FIX}")
        # InvalidPartitionsError: the topic has the partitions already, and our metadata are outdated.
        if result.error_code not in (0, InvalidPartitionsError.errno):
            raise BusRefused(message)
    return grown


def remove(admin: Any, config: BusConfig, group: str) -> None:
    """Removes the topics of our prefix, with their records, and the consumer group `group`. Idempotent.

    It does not remove mapped topics, nor topics of a longer prefix that begins with ours. Raises BusUnauthorized,
    BusRefused, BusUnavailable.
    """
    names = {topic_name(config.prefix, record) for record in TOPIC_RECORDS} & set(admin.list_topics())
    removed = admin.delete_topics(sorted(names), raise_errors=False)["topics"] if names else []
    results = {topic["name"]: errors.for_code(topic["error_code"]) for topic in removed}
    groups = {listed["group_id"] for listed in admin.list_groups()} & {f"{config.prefix}{group}"}
    for name, result in (admin.delete_groups(sorted(groups)) if groups else {}).items():
        results[f"group {name}"] = errors.NoError if result == "OK" else getattr(errors, result, errors.UnknownError)
    for name, error in results.items():
        if error not in (errors.NoError, errors.UnknownTopicOrPartitionError, errors.GroupIdNotFoundError):
            raise to_wire_error(config.bootstrap_servers, error(name))


def _topic_options(record_type: type[TopicRecord], config: BusConfig) -> dict[str, Any]:
    overhead_bytes = LETTER_OVERHEAD_BYTES if record_type is DeadLetter else 0
    return {
        "num_partitions": config.partitions,
        "replication_factor": config.replication_factor,
        "configs": {
            "cleanup.policy": "delete",
            "retention.ms": str(RETENTION_MS[record_type]),
            TIMESTAMP_TYPE: LOG_APPEND_TIME if record_type in TIMED_BY_BROKER else "CreateTime",
            "max.message.bytes": str(config.max_message_bytes + overhead_bytes),
            # One of three replicas may be down; an acknowledged record is then still on two replicas.
            "min.insync.replicas": str(2 if config.replication_factor > 2 else 1),
        },
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A finding about a topic, and the command that fixes it. `is_wrong`: the program cannot work until it is fixed."""

    topic: str
    found: str
    fix: str
    is_wrong: bool
    is_missing: bool = False
    """Whether the topic does not exist or is hidden from us. It may still be created."""


def examine(admin: Any, config: BusConfig, uses: Mapping[str, Mapping[str, bool]]) -> list[Finding]:
    """Returns the findings about topics.

    `uses` maps the name of each topic to its uses ("read", "write"), and each use to whether the program needs it. If
    no use of a topic is needed, its findings are notes.
    """
    existing = set(admin.list_topics())
    findings = [_missing_topic(name, config, any(uses[name].values())) for name in sorted(uses.keys() - existing)]
    known = sorted(uses.keys() & existing)
    described = {topic["name"]: topic for topic in admin.describe_topics(known)} if known else {}
    readable = [name for name in known if DESCRIBE_CONFIGS in (described[name].get(OPERATIONS) or ())]
    options, error = _describe_options(admin, readable)
    ours = {config.topic_for(record): record for record in TOPIC_RECORDS}
    for name in known:
        findings += _check_rights(name, described[name], uses[name], config)
        settings_findings: list[Finding] = []
        if name in ours:
            settings_findings += _check_partitions(name, len(described[name]["partitions"]), config)
        if described[name].get(OPERATIONS) and name not in options:
            settings_findings.append(_hidden_settings(name, config, error if name in readable else ""))
        settings_findings += _check_options(name, options.get(name, {}), ours.get(name))
        is_needed = any(uses[name].values())
        for finding in settings_findings:
            findings.append(replace(finding, is_wrong=finding.is_wrong and is_needed))
    return findings


def _describe_options(admin: Any, names: Iterable[str]) -> tuple[dict[str, dict[str, str]], str]:
    """Returns topic -> settings, and the error of the request; "" if it succeeded."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    try:
        described = admin.describe_configs(resources, config_filter="all") if resources else {}
    except KafkaError as error:
        return {}, str(error)
    values: dict[str, dict[str, str]] = {}
    for name, options in described.get("topic", {}).items():
        values[name] = {key: each["value"] for key, each in options.items()}
    return values, ""


def _hidden_settings(name: str, config: BusConfig, error: str) -> Finding:
    found = "its settings are hidden from us, so its retention and its compaction are not checked"
    fix = _grant(config, "DescribeConfigs", name)
    if error:
        found = f"{found}: {error}"
        fix = f"check them with kafka-configs.sh --describe --entity-type topics --entity-name {name}"
    return Finding(topic=name, found=found, fix=fix, is_wrong=False)


def _grant(config: BusConfig, operation: str, name: str) -> str:
    user = config.sasl_username or "NAME"
    return f"kafka-acls.sh --add --allow-principal User:{user} --operation {operation} --topic {name}"


def _missing_topic(name: str, config: BusConfig, is_needed: bool) -> Finding:
    ours = {config.topic_for(record) for record in TOPIC_RECORDS}
    fix = "lifelong topics create" if name in ours else "correct bus.map, or create the topic"
    found = "it is missing, or hidden from us"
    return Finding(topic=name, found=found, fix=fix, is_wrong=is_needed, is_missing=is_needed)


def _check_rights(
    name: str, topic: Mapping[str, Any], uses: Mapping[str, bool], config: BusConfig
) -> Iterable[Finding]:
    operations = topic.get(OPERATIONS)
    if not operations:
        return
    for use, is_needed in uses.items():
        if use.upper() not in operations:
            fix = _grant(config, use.capitalize(), name)
            yield Finding(topic=name, found=f"we may not {use} it", fix=fix, is_wrong=is_needed)


def _check_partitions(name: str, num: int, config: BusConfig) -> Iterable[Finding]:
    if num < config.partitions:
        found = f"it has {num} partitions, bus.partitions is {config.partitions}"
        yield Finding(topic=name, found=found, fix=GROW_FIX, is_wrong=True)


def _check_options(name: str, options: Mapping[str, str], record: type[TopicRecord] | None) -> Iterable[Finding]:
    alter = f"kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config "
    if "compact" in options.get("cleanup.policy", ""):
        found = "it is compacted, and keeps only the last record of each key"
        yield Finding(topic=name, found=found, fix=f"{alter}cleanup.policy=delete", is_wrong=True)
    retention_ms = int(options.get("retention.ms", -1))
    wanted_ms = RETENTION_MS[record] if record else MIN_RETENTION_MS
    if 0 <= retention_ms < wanted_ms:
        hours = retention_ms / 3_600_000
        wanted_hours = wanted_ms / 3_600_000
        found = f"its records are deleted after {hours:g} h; a new topic would keep them for {wanted_hours:g} h"
        is_wrong = retention_ms < MIN_RETENTION_MS
        yield Finding(topic=name, found=found, fix=f"{alter}retention.ms={wanted_ms}", is_wrong=is_wrong)
    if record in TIMED_BY_BROKER and options.get(TIMESTAMP_TYPE, LOG_APPEND_TIME) != LOG_APPEND_TIME:
        found = "senders set its timestamps: labels are lost if a sender's clock is wrong"
        yield Finding(topic=name, found=found, fix=f"{alter}{TIMESTAMP_TYPE}={LOG_APPEND_TIME}", is_wrong=False)
