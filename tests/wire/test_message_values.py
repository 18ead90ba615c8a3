"""Tests what values of messages are read as; the refusals of JSON are those of tests/wire/test_envelope_refusals.py."""

import pytest

from wire.errors import BadMessage
from wire.message import REGISTRY_MAGIC, decode_object


def test_a_value_of_a_registry_is_read_by_its_decoder_and_json_is_not() -> None:
    assert decode_object(REGISTRY_MAGIC + b"x", lambda value: {"value": value}) == {"value": b"\0x"}
    assert decode_object(b'{"a": 1}', None) == decode_object(b'{"a": 1}', lambda value: {}) == {"a": 1}


def test_a_value_of_a_registry_that_nobody_named_says_what_to_set() -> None:
    with pytest.raises(BadMessage, match=r"set bus\.registry\.url"):
        decode_object(REGISTRY_MAGIC, None)
    with pytest.raises(BadMessage, match="empty"):
        decode_object(b"", None)
