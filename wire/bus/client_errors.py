"""Maps the errors of the client library to ours.

    no broker | unknown topic                     -> BusUnavailable | TopicMissing     (try again)
    rights | password, token | certificate, TLS   -> BusUnauthorized | BusUnauthenticated | BusUntrusted   (fix it)

Each message names the brokers' addresses and the fix. The library wraps TLS errors. It does not keep the cause of a
failed first connection, so `wire.bus.client` records the causes.
"""

import ssl
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from kafka.errors import (  # type: ignore[import-untyped]
    AuthorizationError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    RetriableError,
    SaslAuthenticationFailedError,
    UnknownTopicOrPartitionError,
    UnsupportedSaslMechanismError,
)

from wire.errors import (
    BusRefused,
    BusUnauthenticated,
    BusUnauthorized,
    BusUnavailable,
    BusUntrusted,
    TopicMissing,
    WireError,
)

UNAUTHENTICATED = (SaslAuthenticationFailedError, UnsupportedSaslMechanismError, IllegalSaslStateError)
CONNECTION_LOST = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
"""TLS errors that mean only that the connection was lost."""

NO_ANSWER_FIX = (
    "Start the broker, or correct bus.bootstrap_servers; if a broker closes the connection, "
    "bus.security_protocol may be wrong"
)
RIGHTS_FIX = "grant the rights that docs/connect.md lists, or use a user that has them"
SASL_FIX = "correct bus.sasl_username, bus.sasl_password or bus.sasl_mechanism"
TLS_FIX = (
    "correct bus.ssl_cafile (the authority that signs the brokers' certificates), bus.ssl_certfile (our certificate), "
    "or bus.security_protocol"
)
TOPIC_FIX = "create it with `lifelong topics create`, or correct bus.prefix"


@contextmanager
def map_errors(servers: str) -> Iterator[None]:
    """Maps errors of the client library in its block to ours: BusUnavailable (retry) or BusRefused (do not retry)."""
    try:
        yield
    except (KafkaError, OSError) as error:
        raise to_wire_error(servers, error) from error


def to_wire_error(servers: str, error: Exception) -> WireError:
    """Returns our error for an error of the library. The message names the brokers' addresses."""
    if refused := refusal(servers, error):
        return refused
    if isinstance(error, UnknownTopicOrPartitionError):
        return TopicMissing(f"Kafka at {servers} has no such topic ({error}): {TOPIC_FIX}")
    if isinstance(error, RetriableError | OSError):
        return BusUnavailable(f"no Kafka broker answers at {servers if servers else 'an empty address'}: {error}")
    return BusRefused(f"Kafka at {servers}: {error}")


def topic_missing(servers: str, topics: Collection[str]) -> TopicMissing:
    """Returns the error about topics that do not exist or that we may not see."""
    names = ", ".join(sorted(topics))
    return TopicMissing(f"Kafka at {servers} shows no topic {names}: {TOPIC_FIX}. If it exists, {RIGHTS_FIX}")


def explain_failure(servers: str, error: WireError, failures: Sequence[Exception]) -> WireError:
    """Returns the error to raise for a client that got no connection. Its message has the cause.

    `error` is the client's error, and `failures` are the errors of its attempts to connect, newest first. If the broker
    or the client has refused the other (`refusal`), the newest refusal is returned instead of `error`.
    """
    for failure in failures:
        if refused := refusal(servers, failure):
            return refused
    if not failures or not isinstance(error, BusUnavailable):
        return error
    return BusUnavailable(f"{error} (last attempt: {failures[0]}). {NO_ANSWER_FIX}")


def refusal(servers: str, error: Exception) -> BusRefused | None:
    """Returns our error if `error` means that the broker or the client has refused the other; else None.

    The possible causes are missing rights, wrong credentials, and a certificate that is not trusted.
    """
    if isinstance(error, AuthorizationError):
        return BusUnauthorized(f"Kafka at {servers} denies us a right ({error}): {RIGHTS_FIX}")
    if isinstance(error, UNAUTHENTICATED):
        return BusUnauthenticated(f"Kafka at {servers} does not accept our credentials ({error}): {SASL_FIX}")
    if tls := _tls_error(error):
        return BusUntrusted(f"Kafka at {servers}: the TLS connection is not trusted ({tls}): {TLS_FIX}")
    return None


def _tls_error(error: BaseException) -> ssl.SSLError | None:
    """Returns the TLS error that an error of the library wraps; None if there is none or the connection was lost."""
    inner = error.args[0] if isinstance(error, KafkaConnectionError) and error.args else None
    for wrapped in (error, error.__cause__, error.__context__, inner):
        if isinstance(wrapped, ssl.SSLError) and not isinstance(wrapped, CONNECTION_LOST):
            return wrapped
    return None
