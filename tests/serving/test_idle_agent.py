"""What the raylet gets from the program that runs in place of Ray's agents."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving import idle_agent
from serving.idle_agent import PORTS, announce_ports


@pytest.mark.parametrize("program", PORTS)
def test_a_file_names_each_port_of_the_agent(program: str, tmp_path: Path) -> None:
    announce_ports([f"/ray/{program}", "--node-id=abc", f"--session-dir={tmp_path}", "--logging-format=a=b", "--head"])
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}_abc" for name in PORTS[program]}
    assert all(path.read_text() == idle_agent.NO_PORT for path in tmp_path.iterdir())


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """Its output is closed when it ends: the child of a child cannot be waited for."""
    command = [sys.executable, "-IS", idle_agent.__file__, "main.py", "--node-id=abc", f"--session-dir={tmp_path}"]
    parent = f"import subprocess, time; subprocess.Popen({command}); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as started:
        while not any(tmp_path.iterdir()):
            assert started.poll() is None
        started.kill()
        assert started.stdout is not None
        assert os.read(started.stdout.fileno(), 1) == b""
