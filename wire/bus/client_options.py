"""The options of kafka-python that users set: the section `[bus.client]`, and the options of TLS and SASL.

    {"compression_type": "lz4"} --problems--> error messages, with "Did you mean"
                                --options_for(KafkaProducer)--> the options that a KafkaProducer has
    BusConfig --security_options--> ssl_context, and for SASL: password | tokens | credentials that the library finds

The keys of `[bus.client]` are the library's names. An option is refused with the reason if we set it ourselves, or if
its value cannot be a number, a text or a boolean. Some options have defaults of ours (`wire.config.CLIENT_NUMBERS`).

Broker and client authenticate each other. The broker's certificate and its host name are always verified. The setting
`bus.ssl_cafile` names a private certificate authority.
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

OWN_SETTINGS: dict[str, str] = {
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
"""Maps each option that has a setting of its own to the name of the setting."""

FIXED_OPTIONS: dict[str, str] = {
    "acks": "every answer must be on all in-sync replicas",
    "allow_auto_create_topics": "`lifelong topics create` creates the topics",
    "auto_offset_reset": "`bus.begin` says where to begin",
    "client_id": "it names the process",
    "enable_auto_commit": "offsets are committed after the effect of a record",
    "enable_idempotence": "a record that is sent twice must be in its log once",
    "fetch_max_bytes": "all partitions are read concurrently",
    "isolation_level": "aborted records are never read if the broker ends transactions",
    "max_partition_fetch_bytes": "all partitions are read concurrently",
    "max_poll_interval_ms": "a member polls continuously",
    "max_request_size": "the largest dead letter must fit",
    "metadata_max_age_ms": "new partitions must be noticed soon",
    "metrics_enabled": "`lifelong status` and /metrics report our own metrics",
    "reconnect_backoff_max_ms": "a broker that is back must be noticed soon",
    "reconnect_backoff_ms": "a broker that is back must be noticed soon",
    "ssl_check_hostname": "the broker's name is always verified",
    "transactional_id": "it names the replica (`serving.exactly_once`)",
    "transaction_timeout_ms": "a replica that was killed must not hold up its partitions",
}
"""Maps each option that no setting changes to the reason."""

TLS_OPTIONS = frozenset({"ssl_ciphers", "ssl_crlfile"})
"""Options of the library that are applied to our own TLS context."""

_DEFAULTS: dict[str, Any] = (
    KafkaConsumer.DEFAULT_CONFIG | KafkaProducer.DEFAULT_CONFIG | KafkaAdminClient.DEFAULT_CONFIG
)
_WRITABLE = {name for name, value in _DEFAULTS.items() if value is None or isinstance(value, bool | int | float | str)}


def problems(table: Mapping[str, Any]) -> list[str]:
    """Returns an error message with the fix for every option in `table` that cannot be set."""
    messages = [_problem(name, value) for name, value in sorted(table.items())]
    return [f"bus.client.{message}" for message in messages if message]


def options_for(client: Any, table: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options in `table` that the library's class `client` has.

    TLS options and the options that the caller passes itself (`BusConfig.client_number`) are left out.
    """
    passed = {*TLS_OPTIONS, *CLIENT_NUMBERS}
    return {name: table[name] for name in table if name in client.DEFAULT_CONFIG and name not in passed}


def _problem(name: str, value: Any) -> str:
    if name in OWN_SETTINGS:
        return f"{name} has a setting of its own: set {OWN_SETTINGS[name]}"
    if name in FIXED_OPTIONS:
        return f"{name} cannot be set: {FIXED_OPTIONS[name]}"
    if name not in _DEFAULTS:
        close = get_close_matches(name, _WRITABLE - OWN_SETTINGS.keys() - FIXED_OPTIONS.keys(), n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        return f"{name} is not an option of the Kafka client.{hint}"
    if name not in _WRITABLE:
        return f"{name} cannot be written as a number or a text"
    # `BusConfig` has checked these numbers.
    if name in CLIENT_NUMBERS:
        return ""
    default = _DEFAULTS[name]
    kinds = (int, float) if type(default) is float else (type(default),)
    if default is not None and type(value) not in kinds:
        return f"{name} is {value!r}, not like its default {default!r}"
    return ""


def render_address(config: BusConfig) -> str:
    """Returns the brokers' addresses with protocol and user, for error messages.

    A wrong protocol or user can look like a broker that is down, so the messages name both.

    >>> render_address(BusConfig(bootstrap_servers="kafka:9093", security_protocol="SSL"))
    'kafka:9093 over SSL'
    """
    protocol = "" if config.security_protocol == "PLAINTEXT" else f" over {config.security_protocol}"
    name = f" as {config.sasl_username}" if config.uses_password else ""
    return f"{config.bootstrap_servers}{protocol}{name}"


def security_options(config: BusConfig) -> dict[str, Any]:
    """Returns the options of TLS and SASL.

    Raises BusRefused with its name if a certificate file cannot be read or the token provider cannot be imported.
    """
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
    # An empty password keeps OpenSSL from asking for one on the terminal.
    password = config.ssl_password.get_secret_value() if config.ssl_password else ""
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
        settings = (config.ssl_cafile, config.ssl_certfile, config.ssl_keyfile, crl)
        files = ", ".join(str(file) for file in settings if file)
        raise BusRefused(
            f"a certificate or key of the bus cannot be read ({files}): {error}. Give PEM files that this user may "
            "read, and set bus.ssl_password if the key is encrypted"
        ) from error
    return context


class _Tokens(AbstractTokenProvider):  # type: ignore[misc]
    """Asks the user's token provider for a token at each connection.

    `path` is `module:name` of a callable without arguments that returns the provider. Raises BusRefused if the callable
    cannot be imported or called, or if the provider has no method `token`.
    """

    def __init__(self, path: str) -> None:
        module, _, name = path.partition(":")
        try:
            self._provider = getattr(importlib.import_module(module), name)()
            # A missing method must be found at the start, not at the first connection.
            self._provider.token  # noqa: B018
        except (ImportError, AttributeError, TypeError) as error:
            raise BusRefused(
                f"bus.sasl_oauth_token_provider: {path} cannot be used ({error}). It must be callable without "
                "arguments, and the object that it returns must have a method token()"
            ) from error

    def token(self) -> str:
        return str(self._provider.token())

    def extensions(self) -> dict[str, str]:
        """Returns the SASL extensions of the provider, if it has any. Confluent Cloud requires its cluster in them."""
        get_extensions = getattr(self._provider, "extensions", dict)
        return dict(get_extensions())
