"""The errors of the client library become ours."""

import pytest
from kafka.errors import NodeNotReadyError, TopicAuthorizationFailedError  # type: ignore[import-untyped]

from wire.bus.client_errors import mapped
from wire.errors import BusRefused, BusUnavailable


@pytest.mark.parametrize("error", [NodeNotReadyError("node 1"), ConnectionResetError("reset")])
def test_what_may_go_well_later_is_a_broker_that_is_away(error: Exception) -> None:
    with pytest.raises(BusUnavailable, match=r"no Kafka broker answers at here:1"), mapped("here:1"):
        raise error


def test_what_is_refused_is_not_tried_again() -> None:
    with pytest.raises(BusRefused, match="Kafka at here:1"), mapped("here:1"):
        raise TopicAuthorizationFailedError("no")


def test_an_empty_address_is_said() -> None:
    with pytest.raises(BusUnavailable, match="an empty address"), mapped(""):
        raise OSError("nothing")


def test_other_errors_are_bugs_and_pass() -> None:
    with pytest.raises(KeyError), mapped("here:1"):
        raise KeyError("a bug")
