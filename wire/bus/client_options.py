"""The options of the client library that users set by its own names: `[bus.client]`, checked against the library's own.

    {"compression_type": "lz4"} --problems--> what is wrong, with "did you mean"
                                --options_for(KafkaProducer)--> those that this client knows

An option that we set ourselves, or that is no number, text or truth value, is refused with the reason.

Rejected: a setting of ours for every option of the library (there are 60, and their meaning is the library's).
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from kafka import KafkaConsumer, KafkaProducer  # type: ignore[import-untyped]
from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]

OURS: dict[str, str] = {
    "bootstrap_servers": "bus.bootstrap_servers",
    "bootstrap_timeout_ms": "bus.request_timeout_ms",
    "client_rack": "bus.client_rack",
    "delivery_timeout_ms": "bus.delivery_timeout_ms",
    "fetch_max_wait_ms": "bus.fetch_max_wait_ms",
    "fetch_min_bytes": "bus.fetch_min_bytes",
    "group_id": "serving.group and bus.prefix",
    "heartbeat_interval_ms": "bus.heartbeat_interval_ms",
    "linger_ms": "bus.linger_ms",
    "max_block_ms": "bus.request_timeout_ms",
    "max_poll_records": "bus.max_poll_records",
    "request_timeout_ms": "bus.request_timeout_ms",
    "retry_backoff_ms": "bus.retry_backoff_ms",
    "sasl_mechanism": "bus.sasl_mechanism",
    "sasl_oauth_token_provider": "bus.sasl_oauth_token_provider",
    "sasl_plain_password": "bus.sasl_password",
    "sasl_plain_username": "bus.sasl_username",
    "security_protocol": "bus.security_protocol",
    "session_timeout_ms": "bus.session_timeout_ms",
    "ssl_cafile": "bus.ssl_cafile",
    "ssl_certfile": "bus.ssl_certfile",
    "ssl_keyfile": "bus.ssl_keyfile",
    "ssl_password": "bus.ssl_password",
}
"""The options that have a setting of their own, and its name."""

FIXED: dict[str, str] = {
    "acks": "every answer is on all in-sync replicas",
    "allow_auto_create_topics": "topics are made by `lifelong topics create`",
    "auto_offset_reset": "`bus.begin` says where to begin",
    "client_id": "it names the process",
    "enable_auto_commit": "offsets are committed after the effect",
    "enable_idempotence": "a record that is sent again lies in its log once",
    "fetch_max_bytes": "all partitions are read side by side",
    "isolation_level": "aborted records are never read where the broker ends transactions",
    "max_partition_fetch_bytes": "all partitions are read side by side",
    "max_poll_interval_ms": "a member polls all the time",
    "max_request_size": "the largest dead letter must fit",
    "metadata_max_age_ms": "new partitions are noticed soon",
    "metrics_enabled": "`lifelong status` and /metrics have ours",
    "reconnect_backoff_max_ms": "a broker that is back must be noticed soon",
    "reconnect_backoff_ms": "a broker that is back must be noticed soon",
    "ssl_check_hostname": "the broker's name is always verified",
    "transactional_id": "it names the replica (`serving.exactly_once`)",
    "transaction_timeout_ms": "a replica that was killed must not hold up its partitions",
}
"""The options that no setting changes, and why."""

TLS_OPTIONS = frozenset({"ssl_ciphers", "ssl_crlfile"})
"""Options of the library that go into the TLS context, which is ours."""

_DEFAULTS: dict[str, Any] = (
    KafkaConsumer.DEFAULT_CONFIG | KafkaProducer.DEFAULT_CONFIG | KafkaAdminClient.DEFAULT_CONFIG
)
_WRITABLE = {name for name, value in _DEFAULTS.items() if value is None or isinstance(value, bool | int | float | str)}


def problems(table: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for every option in `table` that cannot be set, with the fix."""
    found = [_problem(name, value) for name, value in sorted(table.items())]
    return [f"bus.client.{problem}" for problem in found if problem]


def options_for(client: Any, table: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options in `table` that the class `client` of the library has, without those of TLS."""
    return {name: table[name] for name in table if name in client.DEFAULT_CONFIG and name not in TLS_OPTIONS}


def _problem(name: str, value: Any) -> str:
    if name in OURS:
        return f"{name} has a setting of its own: set {OURS[name]}"
    if name in FIXED:
        return f"{name} cannot be set: {FIXED[name]}"
    if name not in _DEFAULTS:
        close = get_close_matches(name, _WRITABLE - OURS.keys() - FIXED.keys(), n=1)
        return f"{name} is no option of the Kafka client.{f' Did you mean {close[0]}?' if close else ''}"
    if name not in _WRITABLE:
        return f"{name} cannot be written as a number or a text"
    default = _DEFAULTS[name]
    kinds = (int, float) if type(default) is float else (type(default),)
    if default is not None and type(value) not in kinds:
        return f"{name} is {value!r}, not like its default {default!r}"
    return ""
