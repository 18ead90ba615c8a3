"""A side of a comparison in a process of its own."""

import pytest

from bench.process import PeerFailed, measured


def test_a_process_that_fails_is_told() -> None:
    with pytest.raises(PeerFailed, match="no_such_module"):
        measured("no_such_module")
