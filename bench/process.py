"""Runs one side of a comparison in a process of its own: thread pools of two libraries in one process spoil both."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from services.versions import ROOT

TIMEOUT_S = 600.0


class PeerFailed(RuntimeError):
    """A process of a benchmark ended without its result."""


def run_module(module: str, *arguments: str, env: Mapping[str, str] | None = None) -> Any:
    """Runs `python -m module`; returns its last line, parsed as JSON. Raises PeerFailed."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise PeerFailed(f"{module} ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(lines[-1])
