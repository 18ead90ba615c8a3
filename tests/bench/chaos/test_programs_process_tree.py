"""Checks the roles of processes, by real command lines."""

import os
import subprocess
import sys

import pytest

from bench.chaos.programs import MATCHERS, ProcessTree

OURS = [sys.executable, "-P", "-m"]


@pytest.mark.parametrize(
    ("role", "words"),
    [
        ("replica", ["ray::ServeReplica:lifelong:replica", "", ""]),
        ("Serve controller", ["ray::ServeController", ""]),
        ("raylet", ["/x/ray/core/src/ray/raylet/raylet", "--raylet_socket_name=/tmp/y"]),
        ("gcs_server", ["/x/ray/core/src/ray/gcs/gcs_server", "--log_dir=/tmp/y"]),
        ("serve", [*OURS, "services.cli", "serve", "--config", "/dev/null"]),
        ("learner", [*OURS, "services.cli", "learn", "--config", "/dev/null"]),
        ("rollout controller", [*OURS, "services.cli", "rollout", "run", "--config", "/dev/null"]),
        ("Redis", ["/usr/bin/redis-server 127.0.0.1:1234", "", ""]),
        ("broker", ["java", "-Xmx384m", "kafka.Kafka", "server.properties"]),
        (None, [*OURS, "services.local.children", "1", *OURS, "services.cli", "serve"]),
        (None, ["bash", "kafka-server-start.sh"]),
        (None, ["ray::DashboardAgent", ""]),
    ],
)
def test_a_command_line_has_at_most_one_role(role: str | None, words: list[str]) -> None:
    assert [name for name, matches in MATCHERS.items() if matches(words)] == ([role] if role else [])


def test_processes_are_found_among_the_descendants() -> None:
    command = [*OURS, "services.cli", "learn"]
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", *command[1:]])
    try:
        assert ProcessTree(os.getpid()).pids("learner") == []
        assert ProcessTree(child.pid).pids("learner") == []
    finally:
        child.kill()
        child.wait()
    assert ProcessTree(child.pid).pids("learner") == []
