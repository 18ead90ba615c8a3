"""The options of the client library that a user may set: each is the library's, and none is ours."""

from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer  # type: ignore[import-untyped]
from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]

from services.settings import BadSettings, Settings, load
from services.settings_docs import documented_name, schemas
from wire.bus import Bus
from wire.bus.client_options import FIXED_OPTIONS, OWN_SETTINGS, options_for, problems
from wire.config import CLIENT_NUMBERS, BusConfig
from wire.errors import BusRefused

LIBRARY_S = KafkaConsumer.DEFAULT_CONFIG | KafkaProducer.DEFAULT_CONFIG | KafkaAdminClient.DEFAULT_CONFIG


def test_our_lists_name_options_and_settings_that_there_are() -> None:
    assert (OWN_SETTINGS | FIXED_OPTIONS).keys() <= LIBRARY_S.keys() | {"isolation_level"}
    assert not OWN_SETTINGS.keys() & FIXED_OPTIONS.keys()
    assert {documented_name(Settings, name) for name in OWN_SETTINGS.values()} <= schemas(Settings).keys()
    assert CLIENT_NUMBERS.keys() <= LIBRARY_S.keys() - OWN_SETTINGS.keys() - FIXED_OPTIONS.keys()


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("compresion_type", "lz4", "Did you mean compression_type?"),
        ("zzz", 1, "zzz is not an option of the Kafka client."),
        ("max_block_ms", 5, "set bus.client.request_timeout_ms"),
        ("acks", 1, "acks cannot be set"),
        ("ssl_check_hostname", False, "always verified"),
        ("partitioner", "x", "cannot be written"),
        ("batch_size", "large", "not like its default 16384"),
        ("batch_size", True, "not like its default 16384"),
    ],
)
def test_an_option_that_cannot_be_set_says_why(name: str, value: Any, problem: str) -> None:
    (found,) = problems({name: value})
    assert found.startswith(f"bus.client.{name} ") and problem in found
    with pytest.raises(BusRefused, match=f"bus.client.{name}"):
        Bus(BusConfig(client={name: value}), "test")
    with pytest.raises(BadSettings, match=f"--set bus.client.{name}: bus.client.{name}"):
        load(file=None, environ={}, flags={f"bus.client.{name}": value})


@pytest.mark.parametrize("value", [5, 300_001, "soon", True, 500.0])
def test_an_option_that_we_reckon_with_has_a_range(value: Any) -> None:
    with pytest.raises(BadSettings, match=r"bus\.client\.request_timeout_ms .* must be a whole number from 100"):
        load(file=None, environ={}, flags={"bus.client.request_timeout_ms": value})


def test_an_option_is_ours_until_it_is_set_and_each_client_is_passed_it_once() -> None:
    config = BusConfig(client={"request_timeout_ms": 700, "client_rack": "here"}).with_client(linger_ms=3)
    numbers = [config.client_number(name) for name in ("request_timeout_ms", "linger_ms", "fetch_max_wait_ms")]
    assert numbers == [700, 3, 5]
    assert options_for(KafkaConsumer, config.client) == {"client_rack": "here"}


def test_each_client_gets_the_options_that_it_has() -> None:
    table = {"compression_type": "lz4", "check_crcs": False, "connections_max_idle_ms": 5, "ssl_ciphers": "x"}
    assert problems(table) == []
    assert options_for(KafkaProducer, table).keys() == {"compression_type", "connections_max_idle_ms"}
    assert options_for(KafkaConsumer, table).keys() == {"check_crcs", "connections_max_idle_ms"}
    assert options_for(KafkaAdminClient, table).keys() == {"connections_max_idle_ms"}
