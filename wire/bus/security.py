"""Mutual authentication with a broker (TLS and SASL): the options of the client library.

    BusConfig --security_options--> ssl_context, and for SASL: password | tokens | what the library finds

The broker's certificate and its host name are always verified; a private certificate authority is set by
`bus.ssl_cafile`. Rejected: a setting that skips the verification.
"""

import importlib
import ssl
from typing import Any

from kafka.net.sasl.oauth import AbstractTokenProvider  # type: ignore[import-untyped]

from wire.config import BusConfig
from wire.errors import BusRefused


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
