"""Tests the records: their bytes are stable, and they are compatible with earlier and later readers."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.wire.stored_samples import SAMPLES

GOLDEN = Path(__file__).parents[1] / "golden"


samples = pytest.mark.parametrize("name", SAMPLES)


@samples
def test_bytes_do_not_change(name: str) -> None:
    assert msgspec.json.encode(SAMPLES[name]) == (GOLDEN / f"{name}.json").read_bytes()


@samples
def test_old_bytes_are_read_by_the_new_reader(name: str) -> None:
    old = (GOLDEN / f"{name}.json").read_bytes()
    assert msgspec.json.decode(old, type=type(SAMPLES[name])) == SAMPLES[name]


@samples
def test_new_bytes_are_read_by_the_old_reader(name: str) -> None:
    """The old reader has the fields of the golden bytes, and requires all of them."""
    old_fields = msgspec.json.decode((GOLDEN / f"{name}.json").read_bytes())
    old = msgspec.defstruct("Old", [(field, Any) for field in old_fields])
    read = msgspec.json.decode(msgspec.json.encode(SAMPLES[name]), type=old)
    assert {field: getattr(read, field) for field in old_fields} == old_fields
