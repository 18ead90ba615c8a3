"""Checks what benchmarks share."""

import math
import time

import pytest

from bench.fixtures import Fixtures


def test_peers_have_a_deadline_where_all_benchmarks_run() -> None:
    assert Fixtures(print).deadline_s(240.0) == math.inf
    left_s = Fixtures(print, is_bounded=True).deadline_s(240.0) - time.monotonic()
    assert left_s == pytest.approx(240.0, abs=5.0)
