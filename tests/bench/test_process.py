"""Checks programs that are one side of a comparison."""

import pytest

from bench.process import PeerFailed, run_module


def test_a_process_that_fails_is_told() -> None:
    with pytest.raises(PeerFailed, match="no_such_module"):
        run_module("no_such_module")
