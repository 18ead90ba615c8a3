"""Checks what benchmarks share."""

import math
import time

import pytest

from bench import fixtures as under_test
from bench.demo_run import DemoRun
from bench.fixtures import Fixtures
from evals.results.row import NoResult


def test_a_demo_that_failed_is_not_repeated_for_the_next_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    num_runs = 0

    def run_clinc150() -> DemoRun:
        nonlocal num_runs
        num_runs += 1
        raise NoResult("1 times a program or a replica was started again")

    monkeypatch.setattr(under_test, "run_clinc150", run_clinc150)
    fixtures = Fixtures(lambda _: None)
    for _ in range(2):
        with pytest.raises(NoResult, match="started again"):
            _ = fixtures.demo
    assert num_runs == 1


def test_peers_have_a_deadline_where_all_benchmarks_run() -> None:
    assert Fixtures(print).deadline_s(240.0) == math.inf
    left_s = Fixtures(print, is_bounded=True).deadline_s(240.0) - time.monotonic()
    assert left_s == pytest.approx(240.0, abs=5.0)
