"""Maps the errors of the client library to ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from kafka.errors import KafkaError, RetriableError  # type: ignore[import-untyped]

from wire.errors import BusRefused, BusUnavailable, WireError


@contextmanager
def mapped(servers: str) -> Iterator[None]:
    """Maps errors of the client library in its block to BusUnavailable (try again) or BusRefused (do not)."""
    try:
        yield
    except (KafkaError, OSError) as error:
        raise mapped_error(servers, error) from error


def mapped_error(servers: str, error: Exception) -> WireError:
    """Returns our error for one of the library's; the message names the brokers that were asked."""
    if isinstance(error, RetriableError | OSError):
        return BusUnavailable(f"no Kafka broker answers at {servers if servers else 'an empty address'}: {error}")
    return BusRefused(f"Kafka at {servers}: {error}")
