"""Checks the topics that a program needs, before it waits for records that cannot come.

    topics read and written --metadata, settings--> Finding(topic, is_wrong, found, fix)

Wrong is what keeps a program from its work: a topic that is missing, hidden, or may not be read or written, fewer
partitions than the settings say, a log that is compacted (it keeps one event of each key), or records that are gone
before a program that was away has read them. The rest is a note, also that the settings of a topic are hidden from us:
what is not known is not wrong. A broker that does not tell rights is not asked for settings (Tansu 0.6 hangs up then).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kafka.admin import ConfigResource, ConfigResourceType  # type: ignore[import-untyped]
from kafka.errors import KafkaError  # type: ignore[import-untyped]

from wire.bus.topics import BY_BROKER, RETENTION_MS, TIMED_BY_BROKER, TIMESTAMP_TYPE
from wire.config import BusConfig
from wire.records import TOPIC_RECORDS, TopicRecord

TOLD = "authorized_operations"
"""The field of a topic's metadata with our rights, by name; it has none where the broker does not tell them."""

DESCRIBE_CONFIGS = "DESCRIBE_CONFIGS"
"""The right to be told the settings of a topic; nothing else needs it."""

GROW = "lifelong topics grow, or lower bus.partitions where a topic cannot grow"
"""The fix for too few partitions. Event Hubs adds none in its basic and standard tiers."""

LEAST_RETENTION_MS = 3_600_000
"""Shortest retention that is no mistake: an outage of an hour loses nothing."""


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
