"""The product holds its promises in 200 worlds full of faults; a world is the same at every run of its seed."""

import os
import re
import subprocess
import sys

import pytest

from services.versions import ROOT
from tests.simulation.mutants import MUTANTS

NUM_SEEDS = 200
PARTS = [part if part < 2 else pytest.param(part, marks=pytest.mark.slow) for part in range(8)]
"""Tests that the seeds are spread over. The first quarter of the seeds is simulated for every change."""


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the program of `make simulate`."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", PARTS)
def test_no_seed_fails(part: int) -> None:
    num = NUM_SEEDS // len(PARTS)
    run = simulate("--first", str(part * num), "--seeds", str(num))
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_seed_is_replayed() -> None:
    digests = {re.findall(r"passes: (\w+)", simulate("--seed", "3").stdout)[0] for _ in range(2)}
    assert len(digests) == 1
    assert re.findall(r"passes: (\w+)", simulate("--seed", "4").stdout)[0] not in digests


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_bug_that_comes_back_is_found(name: str) -> None:
    mutant = MUTANTS[name]
    run = simulate("--mutant", name, "--seeds", str(mutant.seeds))
    assert run.returncode == 0, run.stdout + run.stderr
    assert mutant.finds in run.stdout
