"""Mutual authentication with a broker (TLS and SASL): the options of the client library.

The broker's certificate and its host name are always verified; a private certificate authority is set by
`bus.ssl_cafile`. Rejected: a setting that skips the verification.
"""

import ssl
from typing import Any

from wire.config import BusConfig
from wire.errors import BusRefused


def address_of(config: BusConfig) -> str:
    """Returns the brokers' addresses with protocol and user, for messages: a broker that refuses us seems to be away.

    >>> address_of(BusConfig(bootstrap_servers="kafka:9093", security_protocol="SSL"))
    'kafka:9093 over SSL'
    """
    protocol = "" if config.security_protocol == "PLAINTEXT" else f" over {config.security_protocol}"
    name = f" as {config.sasl_username}" if config.uses_sasl else ""
    return f"{config.bootstrap_servers}{protocol}{name}"


def security_options(config: BusConfig) -> dict[str, Any]:
    """Returns the options. Raises BusRefused, naming the files, where a certificate or key cannot be read."""
    options: dict[str, Any] = {"security_protocol": config.security_protocol}
    if config.uses_ssl:
        options["ssl_context"] = _context(config)
    if config.uses_sasl:
        options["sasl_mechanism"] = config.sasl_mechanism
        options["sasl_plain_username"] = config.sasl_username
        options["sasl_plain_password"] = config.password
    return options


def _context(config: BusConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=config.ssl_cafile)
        if config.ssl_certfile is not None:
            context.load_cert_chain(config.ssl_certfile, config.ssl_keyfile)
    except OSError as error:
        files = ", ".join(str(file) for file in (config.ssl_cafile, config.ssl_certfile, config.ssl_keyfile) if file)
        raise BusRefused(f"a certificate or key of the bus cannot be read ({files}): {error}") from error
    return context
