"""Our topics: how they are made, grown and removed, and what a program finds wrong with those that it needs.

    settings --create, grow, remove--> partitions, retention, the clock, and size limits above what we accept
    topics read and written --metadata, settings--> examine --> Finding(topic, is_wrong, found, fix)

An oversized event must be able to arrive, or it could not become a dead letter. The dead letter of the largest message
must fit, too. The broker sets the times of answers and labels, so that the learner can compare them
(`learner.intake.consumer`), whatever the clock of a sender says. The time of an event is the client's own.

Topics are examined before a program waits for records that cannot come. Wrong is what keeps it from its work: a topic
that is missing, hidden, or may not be read or written, fewer partitions than the settings say, a log that is compacted
(it keeps one event of each key), or records that are gone before a program that was away has read them. The rest is a
note, also that the settings of a topic are hidden from us: what is not known is not wrong. A broker that does not tell
rights is not asked for settings (Tansu 0.6 hangs up then).
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

TOLD = "authorized_operations"
"""The field of a topic's metadata with our rights, by name; it has none where the broker does not tell them."""

DESCRIBE_CONFIGS = "DESCRIBE_CONFIGS"
"""The right to be told the settings of a topic; nothing else needs it."""

GROW = "lifelong topics grow, or lower bus.partitions where a topic cannot grow"
"""The fix for too few partitions. Event Hubs adds none in its basic and standard tiers."""

LEAST_RETENTION_MS = 3_600_000
"""Shortest retention that is no mistake: an outage of an hour loses nothing."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What was found about a topic, and the command that mends it; `is_wrong` where it keeps us from work."""

    topic: str
    found: str
    fix: str
    is_wrong: bool
    is_missing: bool = False
    """Whether the topic is not there, or not for us; it may be made yet."""


def examine(admin: Any, config: BusConfig, uses: Mapping[str, Mapping[str, bool]]) -> list[Finding]:
    """Returns what was found about topics. `uses` has the name of each, with what is done there (`read`, `write`), and
    whether that is needed: about what is not, there are notes alone."""
    existing = set(admin.list_topics())
    findings = [_missing(name, config, any(uses[name].values())) for name in sorted(uses.keys() - existing)]
    known = sorted(uses.keys() & existing)
    described = {topic["name"]: topic for topic in admin.describe_topics(known)} if known else {}
    told = [name for name in known if DESCRIBE_CONFIGS in (described[name].get(TOLD) or ())]
    options, why_not = _options_of(admin, told)
    ours = {config.topic_of(record): record for record in TOPIC_RECORDS}
    for name in known:
        findings += _about_rights(name, described[name], uses[name], config)
        own: list[Finding] = []
        if name in ours:
            own += _about_partitions(name, len(described[name]["partitions"]), config)
        if described[name].get(TOLD) and name not in options:
            own.append(_hidden(name, config, why_not if name in told else ""))
        own += _about_options(name, options.get(name, {}), ours.get(name))
        is_needed = any(uses[name].values())
        findings += [replace(each, is_wrong=each.is_wrong and is_needed) for each in own]
    return findings


def _options_of(admin: Any, names: Iterable[str]) -> tuple[dict[str, dict[str, str]], str]:
    """Returns the settings of topics by name, and why the broker did not tell them, "" where it did."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    try:
        described = admin.describe_configs(resources, config_filter="all") if resources else {}
    except KafkaError as error:
        return {}, str(error)
    values: dict[str, dict[str, str]] = {}
    for name, options in described.get("topic", {}).items():
        values[name] = {key: each["value"] for key, each in options.items()}
    return values, ""


def _hidden(name: str, config: BusConfig, why_not: str) -> Finding:
    found = "its settings are hidden from us, so nobody checks its retention, or whether it is compacted"
    fix = _grant(config, "DescribeConfigs", name)
    if why_not:
        found = f"{found}: {why_not}"
        fix = f"look at them: kafka-configs.sh --describe --entity-type topics --entity-name {name}"
    return Finding(topic=name, found=found, fix=fix, is_wrong=False)


def _grant(config: BusConfig, operation: str, name: str) -> str:
    user = config.sasl_username or "NAME"
    return f"kafka-acls.sh --add --allow-principal User:{user} --operation {operation} --topic {name}"


def _missing(name: str, config: BusConfig, is_needed: bool) -> Finding:
    ours = {config.topic_of(record) for record in TOPIC_RECORDS}
    fix = "lifelong topics create" if name in ours else "correct bus.map, or make the topic"
    found = "it is missing, or hidden from us"
    return Finding(topic=name, found=found, fix=fix, is_wrong=is_needed, is_missing=is_needed)


def _about_rights(
    name: str, topic: Mapping[str, Any], uses: Mapping[str, bool], config: BusConfig
) -> Iterable[Finding]:
    told = topic.get(TOLD)
    if not told:
        return
    for use, is_needed in uses.items():
        if use.upper() not in told:
            fix = _grant(config, use.capitalize(), name)
            yield Finding(topic=name, found=f"we may not {use} it", fix=fix, is_wrong=is_needed)


def _about_partitions(name: str, num: int, config: BusConfig) -> Iterable[Finding]:
    if num < config.partitions:
        found = f"it has {num} partitions, bus.partitions is {config.partitions}"
        yield Finding(topic=name, found=found, fix=GROW, is_wrong=True)


def _about_options(name: str, options: Mapping[str, str], record: type[TopicRecord] | None) -> Iterable[Finding]:
    alter = f"kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config "
    if "compact" in options.get("cleanup.policy", ""):
        found = "it is compacted, and loses all but the last record of each key"
        yield Finding(topic=name, found=found, fix=f"{alter}cleanup.policy=delete", is_wrong=True)
    retention_ms = int(options.get("retention.ms", -1))
    wanted_ms = RETENTION_MS[record] if record else LEAST_RETENTION_MS
    if 0 <= retention_ms < wanted_ms:
        found = f"records are gone after {retention_ms / 3_600_000:g} h; we would keep them {wanted_ms / 3_600_000:g} h"
        is_wrong = retention_ms < LEAST_RETENTION_MS
        yield Finding(topic=name, found=found, fix=f"{alter}retention.ms={wanted_ms}", is_wrong=is_wrong)
    if record in TIMED_BY_BROKER and options.get(TIMESTAMP_TYPE, BY_BROKER) != BY_BROKER:
        found = "senders set its times: labels are lost where a sender's clock is wrong"
        yield Finding(topic=name, found=found, fix=f"{alter}{TIMESTAMP_TYPE}={BY_BROKER}", is_wrong=False)
