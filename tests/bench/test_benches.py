"""Checks the register of benchmarks."""

import subprocess
import sys

from bench.benches import BENCHES
from services.versions import ROOT


def test_every_benchmark_has_a_name_and_a_function_of_its_own() -> None:
    names = [bench.name for bench in BENCHES]
    assert len(set(names)) == len(names)
    assert len({bench.measure for bench in BENCHES}) == len(names)


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    done = subprocess.run([sys.executable, "-m", "bench", "--only", "x"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "kafka_throughput" in done.stderr
