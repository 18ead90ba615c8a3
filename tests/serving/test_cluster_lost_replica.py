"""A replica that is killed while another one starts is told from replicas that do not start, on a real Ray Serve."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.versions import ROOT

pytestmark = [pytest.mark.live, pytest.mark.slow]

PROGRAM = """
import os, pathlib, signal, sys, threading, time
import ray
from ray import serve
from serving.cluster import serve_state

folder = pathlib.Path(sys.argv[1])

@serve.deployment(num_replicas=2, health_check_period_s=0.5)
class Waits:
    def __init__(self):
        try:
            (folder / "first").open("x").write(str(os.getpid()))
        except FileExistsError:
            while True:
                time.sleep(0.1)

def kill():
    while not (folder / "first").exists() or not (folder / "first").read_text():
        time.sleep(0.1)
    time.sleep(3)  # Serve has seen that it runs
    os.kill(int((folder / "first").read_text()), signal.SIGKILL)

threading.Thread(target=kill, daemon=True).start()
ray.init(include_dashboard=False, num_cpus=2, log_to_driver=False)
serve.start(proxy_location="Disabled")
try:
    serve.run(Waits.bind(), name="app", route_prefix=None)
except RuntimeError as error:
    print("failed", serve_state("app").has_lost_replica)
serve.shutdown()
ray.shutdown()
"""


def test_serve_calls_a_deployment_failed_whose_replica_was_lost_while_another_one_starts(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "failed True" in done.stdout, done.stderr
