"""The options that the client library gets besides our own: those of `[bus.client]`, and those of TLS and SASL.

    {"compression_type": "lz4"} --problems--> what is wrong, with "did you mean"
                                --options_for(KafkaProducer)--> those that this client knows
    BusConfig --security_options--> ssl_context, and for SASL: password | tokens | what the library finds

Users set options of `[bus.client]` by the library's names. An option that we set ourselves, or that is no number, text
or truth value, is refused with the reason. Some have defaults of ours (`wire.config.CLIENT_NUMBERS`).

Broker and client authenticate each other. The broker's certificate and its host name are always verified; a private
certificate authority is set by `bus.ssl_cafile`.
"""

import importlib
import ssl
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from kafka import KafkaConsumer, KafkaProducer  # type: ignore[import-untyped]
from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]
from kafka.net.sasl.oauth import AbstractTokenProvider  # type: ignore[import-untyped]

from wire.config import CLIENT_NUMBERS, BusConfig
from wire.errors import BusRefused

OURS: dict[str, str] = {
    "bootstrap_servers": "bus.bootstrap_servers",
    "bootstrap_timeout_ms": "bus.client.request_timeout_ms",
    "group_id": "bus.prefix",
    "max_block_ms": "bus.client.request_timeout_ms",
    "sasl_mechanism": "bus.sasl_mechanism",
    "sasl_oauth_token_provider": "bus.sasl_oauth_token_provider",
    "sasl_plain_password": "bus.sasl_password",
    "sasl_plain_username": "bus.sasl_username",
    "security_protocol": "bus.security_protocol",
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
    """Returns the options in `table` that the class `client` of the library has, without those of TLS and those that
    its caller passes (`BusConfig.client_number`)."""
    passed = {*TLS_OPTIONS, *CLIENT_NUMBERS}
    return {name: table[name] for name in table if name in client.DEFAULT_CONFIG and name not in passed}


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
    if name in CLIENT_NUMBERS:
        return ""  # `BusConfig` has checked it
    default = _DEFAULTS[name]
    kinds = (int, float) if type(default) is float else (type(default),)
    if default is not None and type(value) not in kinds:
        return f"{name} is {value!r}, not like its default {default!r}"
    return ""


def address_of(config: BusConfig) -> str:
    """Returns the brokers' addresses with protocol and user, for messages: a broker that refuses us seems to be away.

    >>> address_of(BusConfig(bootstrap_servers="kafka:9093", security_protocol="SSL"))
    'kafka:9093 over SSL'
    """
    protocol = "" if config.security_protocol == "PLAINTEXT" else f" over {config.security_protocol}"
    name = f" as {config.sasl_username}" if config.uses_password else ""
    return f"{config.bootstrap_servers}{protocol}{name}"


def security_options(config: BusConfig) -> dict[str, Any]:
    """Returns the options. Raises BusRefused, naming the file or the path, where one of them cannot be read."""
    options: dict[str, Any] = {"security_protocol": config.security_protocol}
    if config.uses_ssl:
        options["ssl_context"] = _context(config)
    if config.uses_sasl:
        options["sasl_mechanism"] = config.sasl_mechanism
    if config.uses_password:
        options["sasl_plain_username"] = config.sasl_username
        options["sasl_plain_password"] = config.password
    if config.sasl_oauth_token_provider:
        options["sasl_oauth_token_provider"] = _Tokens(config.sasl_oauth_token_provider)
    return options


def _context(config: BusConfig) -> ssl.SSLContext:
    password = config.ssl_password.get_secret_value() if config.ssl_password else ""  # "": never ask the terminal
    crl = config.client.get("ssl_crlfile")
    try:
        context = ssl.create_default_context(cafile=config.ssl_cafile)
        if config.ssl_certfile is not None:
            context.load_cert_chain(config.ssl_certfile, config.ssl_keyfile, password)
        if crl:
            context.load_verify_locations(str(crl))
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        if ciphers := config.client.get("ssl_ciphers"):
            context.set_ciphers(str(ciphers))
    except OSError as error:
        named = (config.ssl_cafile, config.ssl_certfile, config.ssl_keyfile, crl)
        files = ", ".join(str(file) for file in named if file)
        raise BusRefused(
            f"a certificate or key of the bus cannot be read ({files}): {error}. Give PEM files that this user may "
            "read, and bus.ssl_password where the key is encrypted"
        ) from error
    return context


class _Tokens(AbstractTokenProvider):  # type: ignore[misc]
    """Asks an object of the user for a token at each connection. `path` is the import path of what makes the object."""

    def __init__(self, path: str) -> None:
        module, _, name = path.partition(":")
        try:
            self._provider = getattr(importlib.import_module(module), name)()
            self._provider.token  # noqa: B018 - asked for here, so that the mistake is found at the start
        except (ImportError, AttributeError, TypeError) as error:
            raise BusRefused(
                f"bus.sasl_oauth_token_provider: {path} cannot be used ({error}). It must be callable without "
                "arguments, and what it returns must have a method token()"
            ) from error

    def token(self) -> str:
        return str(self._provider.token())

    def extensions(self) -> dict[str, str]:
        """Returns the extensions of the provider, where it has any: Confluent Cloud asks for its cluster by them."""
        asked = getattr(self._provider, "extensions", dict)
        return dict(asked())
