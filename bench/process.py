"""Runs one side of a comparison in a process of its own: thread pools of two libraries in one process spoil both."""

import json
import subprocess
import sys
from typing import Any

from evals.results.row import NoResult
from services.versions import ROOT

LIMIT_S = 600.0


class PeerFailed(NoResult):
    """A process of a benchmark ended without its result."""


def run_module(module: str, *arguments: str, limit_s: float = LIMIT_S) -> Any:
    """Runs `python -m module`; returns its last line, parsed as JSON. Raises PeerFailed."""
    return json.loads(output_of(module, *arguments, limit_s=limit_s)[-1])


def output_of(module: str, *arguments: str, limit_s: float = LIMIT_S) -> list[str]:
    """Runs `python -m module`; returns the lines that it prints, at least one. Raises PeerFailed."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PeerFailed(f"{module} did not end within the limit of {limit_s:.0f} s") from error
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise PeerFailed(f"{module} ended with {done.returncode}: {done.stderr[-2000:]}")
    return lines
