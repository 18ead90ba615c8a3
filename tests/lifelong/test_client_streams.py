"""Invalid settings raise before anything is connected, and a client without open streams closes."""

import pytest

from lifelong.client import AnswerStreams


def test_invalid_settings_raise_and_leave_nothing_open() -> None:
    streams = AnswerStreams(retry_timeout_s=1.0)
    with pytest.raises(ValueError, match="bootstrap_servers is required"):
        streams.open({}, "latest", None)
    streams.close()
