"""`python -m bench`."""

import subprocess
import sys

from bench.harness.process import RESULTS
from services.versions import ROOT


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_quick_run_is_printed_and_recorded_nowhere() -> None:
    before = RESULTS.read_bytes() if RESULTS.exists() else b""
    done = bench("--only", "E12", "--quick")
    assert done.returncode == 0, done.stderr
    assert "E12, call 1 of 1 ..." in done.stdout and "E12 took" in done.stdout
    assert (RESULTS.read_bytes() if RESULTS.exists() else b"") == before


def test_an_unknown_name_is_refused_with_the_known_names() -> None:
    done = bench("--only", "E99")
    assert done.returncode == 2
    assert "invalid choice: 'E99' (choose from 'encoder', 'precision'" in done.stderr


def test_a_case_without_a_quick_run_says_so() -> None:
    done = bench("--only", "walk", "--quick")
    assert done.returncode == 1
    assert "there is no quick run of walk" in done.stderr
