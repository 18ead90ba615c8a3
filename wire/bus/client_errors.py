"""What the client library raises, as ours: the only place that knows its errors by meaning."""

from collections.abc import Iterator
from contextlib import contextmanager

from kafka.errors import KafkaError, RetriableError  # type: ignore[import-untyped]

from wire.errors import BusRefused, BusUnavailable, WireError


@contextmanager
def mapped(servers: str) -> Iterator[None]:
    """Turns what the client library raises inside into BusUnavailable (try again) or BusRefused (do not)."""
    try:
        yield
    except (KafkaError, OSError) as error:
        raise ours(servers, error) from error


def ours(servers: str, error: Exception) -> WireError:
    """Our error for one of the library's; the message names the brokers that were asked."""
    if isinstance(error, RetriableError | OSError):
        return BusUnavailable(f"no Kafka broker answers at {servers if servers else 'an empty address'}: {error}")
    return BusRefused(f"Kafka at {servers}: {error}")
