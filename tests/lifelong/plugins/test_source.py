"""The source digest of a class is the digest of its file."""

import hashlib
from pathlib import Path

import pytest

from lifelong.plugins.source import source_digest
from model.errors import WrongConfig


class Mine:
    """A class that is defined in this file."""


def test_the_digest_is_computed_from_the_file() -> None:
    assert source_digest(Mine, "mine") == hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


def test_a_class_without_a_file_is_refused() -> None:
    with pytest.raises(WrongConfig, match="encoder 'x:Y': its source cannot be read"):
        source_digest(type("Made", (), {"__module__": "builtins"}), "encoder 'x:Y'")
