"""The errors of the client library become ours: one class for each mistake that a user has to fix."""

import ssl

import pytest
from kafka.errors import (  # type: ignore[import-untyped]
    GroupAuthorizationFailedError,
    InvalidConfigurationError,
    KafkaConnectionError,
    NodeNotReadyError,
    SaslAuthenticationFailedError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    UnsupportedSaslMechanismError,
)

from wire.bus.client_errors import map_errors, to_wire_error
from wire.errors import BusRefused, BusUnauthenticated, BusUnauthorized, BusUnavailable, BusUntrusted, TopicMissing


@pytest.mark.parametrize("error", [NodeNotReadyError("node 1"), ConnectionResetError("reset")])
def test_what_may_go_well_later_is_a_broker_that_is_away(error: Exception) -> None:
    with pytest.raises(BusUnavailable, match=r"no Kafka broker answers at here:1"), map_errors("here:1"):
        raise error


@pytest.mark.parametrize(
    ("error", "ours", "fix"),
    [
        (TopicAuthorizationFailedError("no"), BusUnauthorized, "docs/connect.md"),
        (GroupAuthorizationFailedError("no"), BusUnauthorized, "docs/connect.md"),
        (SaslAuthenticationFailedError("no"), BusUnauthenticated, "bus.sasl_password"),
        (UnsupportedSaslMechanismError("no"), BusUnauthenticated, "bus.sasl_mechanism"),
        (KafkaConnectionError(ssl.SSLCertVerificationError("no")), BusUntrusted, "bus.ssl_cafile"),
        (UnknownTopicOrPartitionError("no"), TopicMissing, "lifelong topics create"),
        (InvalidConfigurationError("no"), BusRefused, "no"),
    ],
)
def test_what_time_does_not_mend_has_an_error_of_its_own(error: Exception, ours: type[Exception], fix: str) -> None:
    found = to_wire_error("here:1", error)
    assert type(found) is ours
    assert "here:1" in str(found) and fix in str(found)


def test_a_handshake_that_was_cut_off_is_no_matter_of_trust() -> None:
    """A proxy closes the connection during the handshake while the broker behind it is down."""
    assert type(to_wire_error("here:1", KafkaConnectionError(ssl.SSLEOFError("EOF")))) is BusUnavailable


def test_a_failed_handshake_is_told_by_its_context() -> None:
    with pytest.raises(BusUntrusted, match="unknown ca"), map_errors("here:1"):
        try:
            raise ssl.SSLError(1, "unknown ca")
        except ssl.SSLError as error:
            raise KafkaConnectionError(f"Handshake failed: {error}")  # noqa: B904 - as the library does


def test_an_empty_address_is_said() -> None:
    with pytest.raises(BusUnavailable, match="an empty address"), map_errors(""):
        raise OSError("nothing")


def test_other_errors_are_bugs_and_pass() -> None:
    with pytest.raises(KeyError), map_errors("here:1"):
        raise KeyError("a bug")
