"""Tests what values of messages are read as; the refusals of JSON are those of tests/wire/test_envelope_refusals.py."""

import pytest

from wire.errors import BadMessage
from wire.message import REGISTRY_MAGIC, object_of


def test_a_value_of_a_registry_is_read_by_its_decoder_and_json_is_not() -> None:
    assert object_of(REGISTRY_MAGIC + b"x", lambda value: {"value": value}) == {"value": b"\0x"}
    assert object_of(b'{"a": 1}', None) == object_of(b'{"a": 1}', lambda value: {}) == {"a": 1}


def test_a_value_of_a_registry_that_nobody_named_says_what_to_set() -> None:
    with pytest.raises(BadMessage, match=r"set bus\.registry\.url"):
        object_of(REGISTRY_MAGIC, None)
    with pytest.raises(BadMessage, match="empty"):
        object_of(b"", None)
