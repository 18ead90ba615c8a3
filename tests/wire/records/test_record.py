"""Tests the base class of records, and the names of keys."""

import pytest

from tests.wire.records.test_plans import PLAN
from wire.records import Event, key_name, topic_name


def test_records_are_frozen() -> None:
    with pytest.raises(AttributeError):
        PLAN.revision = 5  # type: ignore[misc]


def test_names_carry_the_prefix() -> None:
    assert topic_name("eu.", Event) == "eu.events.v1"
    assert key_name("eu.", "blob", 7) == "eu.blob:7"
