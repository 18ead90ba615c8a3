"""Maps the errors of the client library to ours.

    no broker | unknown topic                     -> BusUnavailable | TopicMissing     (try again)
    rights | password, token | certificate, TLS   -> BusUnauthorized | BusUnauthenticated | BusUntrusted   (mend it)

Each message names the brokers that were asked and the fix. The library wraps an error of TLS, and forgets why a
connection failed while it has none at all (`wire.bus.client` remembers that).
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
HUNG_UP = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
"""Errors of TLS that say only that the connection was lost."""

NO_ANSWER_FIX = "Start it, or correct bus.bootstrap_servers; one that hangs up may want another bus.security_protocol"
RIGHTS_FIX = "grant them as docs/connect.md lists them, or use a user that has them"
SASL_FIX = "correct bus.sasl_username, bus.sasl_password or bus.sasl_mechanism"
TLS_FIX = "correct bus.ssl_cafile (who signs the brokers), bus.ssl_certfile (who we are), or bus.security_protocol"
TOPIC_FIX = "make it with `lifelong topics create`, or correct bus.prefix"


@contextmanager
def mapped(servers: str) -> Iterator[None]:
    """Maps errors of the client library in its block to BusUnavailable (try again) or BusRefused (do not)."""
    try:
        yield
    except (KafkaError, OSError) as error:
        raise mapped_error(servers, error) from error


def mapped_error(servers: str, error: Exception) -> WireError:
    """Returns our error for one of the library's; the message names the brokers that were asked."""
    if refused := refusal(servers, error):
        return refused
    if isinstance(error, UnknownTopicOrPartitionError):
        return TopicMissing(f"Kafka at {servers} has no such topic ({error}): {TOPIC_FIX}")
    if isinstance(error, RetriableError | OSError):
        return BusUnavailable(f"no Kafka broker answers at {servers if servers else 'an empty address'}: {error}")
    return BusRefused(f"Kafka at {servers}: {error}")


def topic_missing(servers: str, topics: Collection[str]) -> TopicMissing:
    """Returns the error about topics that are missing, or are hidden from us."""
    names = ", ".join(sorted(topics))
    return TopicMissing(f"Kafka at {servers} tells of no topic {names}: {TOPIC_FIX}. Where it is there: {RIGHTS_FIX}")


def told(servers: str, error: WireError, failures: Sequence[Exception]) -> WireError:
    """Returns `error`, of a client that got no connection, as why its attempts failed tells it, the newest first."""
    for refused in (refusal(servers, failure) for failure in failures):
        if refused:
            return refused
    if not failures or not isinstance(error, BusUnavailable):
        return error
    return BusUnavailable(f"{error} (the last attempt: {failures[0]}). {NO_ANSWER_FIX}")


def refusal(servers: str, error: Exception) -> BusRefused | None:
    """Returns our error where the broker, or we, refuse each other: for rights, for who one is, for a certificate."""
    if isinstance(error, AuthorizationError):
        return BusUnauthorized(f"Kafka at {servers} refuses us for lack of rights ({error}): {RIGHTS_FIX}")
    if isinstance(error, UNAUTHENTICATED):
        return BusUnauthenticated(f"Kafka at {servers} does not accept who we are ({error}): {SASL_FIX}")
    if tls := _tls_error(error):
        return BusUntrusted(f"Kafka at {servers}: no trusted connection by TLS ({tls}): {TLS_FIX}")
    return None


def _tls_error(error: BaseException) -> ssl.SSLError | None:
    """Returns the error of TLS behind one of the library's, unless it says only that the connection was lost."""
    inner = error.args[0] if isinstance(error, KafkaConnectionError) and error.args else None
    for each in (error, error.__cause__, error.__context__, inner):
        if isinstance(each, ssl.SSLError) and not isinstance(each, HUNG_UP):
            return each
    return None
