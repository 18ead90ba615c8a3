"""The digest of a class is that of its file."""

import hashlib
from pathlib import Path

import pytest

from lifelong.plugins.source import source_digest
from model.errors import WrongConfig


class Mine:
    """Stands in this file."""


def test_the_digest_is_that_of_the_file() -> None:
    assert source_digest(Mine, "mine") == hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


def test_a_class_without_a_file_is_refused_by_its_name() -> None:
    with pytest.raises(WrongConfig, match="encoder 'x:Y': its source cannot be read"):
        source_digest(type("Made", (), {"__module__": "builtins"}), "encoder 'x:Y'")
