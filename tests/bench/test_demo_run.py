"""Checks how a run of the demo is observed from outside."""

import subprocess
import sys
import time

import pytest

from bench import demo
from bench.demo import FIRST_ANSWER, PeakMemory


def test_the_peak_of_a_process_and_its_children_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "POLL_INTERVAL_S", 0.01)
    script = "block = bytearray(50_000_000); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        peak = PeakMemory(child.pid)
        time.sleep(0.3)
        child.communicate(b"\n")
    peak_bytes = peak.stop()
    assert peak_bytes > 50_000_000
    assert peak_bytes < 500_000_000


def test_the_first_answer_is_found_in_the_output_of_the_demo() -> None:
    match = FIRST_ANSWER.search("first answer 29.8 s after the start")
    assert match is not None
    assert float(match.group(1)) == 29.8
