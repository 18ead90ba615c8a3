"""Checks the register of benchmarks."""

import subprocess
import sys

from bench.benches import BENCHES
from services.versions import ROOT


def test_every_benchmark_has_a_name_of_its_own() -> None:
    names = [bench.name for bench in BENCHES]
    assert len(set(names)) == len(names)
    modules = [bench.measure.__module__.removesuffix(".rows") for bench in BENCHES]
    assert modules == [f"bench.{name}" for name in names]


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    done = subprocess.run([sys.executable, "-m", "bench", "--only", "x"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "kafka_throughput" in done.stderr
