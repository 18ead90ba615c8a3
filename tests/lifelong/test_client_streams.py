"""Tests that wrong settings are told before anything is connected, and that a client without streams just closes."""

import pytest

from lifelong.client import Streams


def test_wrong_settings_are_told_and_nothing_is_left_open() -> None:
    streams = Streams(patience_s=1.0)
    with pytest.raises(ValueError, match="bootstrap_servers is required"):
        streams.open({}, "latest", None)
    streams.close()
